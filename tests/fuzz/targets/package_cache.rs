#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| boxbuild_package_cache::fuzz::package_cache(data));
