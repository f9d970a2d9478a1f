#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| boxbuild_vmm::fuzz::vhost_user(data));
