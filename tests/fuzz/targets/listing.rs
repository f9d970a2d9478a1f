#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| boxbuild_parsers::fuzz::listing(data));
