//! The coupon service, alone in its process.

fn main() -> std::process::ExitCode {
    jetstream::shell::host::main(coupon_svc::SERVICE)
}
