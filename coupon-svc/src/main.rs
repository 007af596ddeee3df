//! The coupon service, alone in its process.

fn main() -> std::process::ExitCode {
    jetstream::host::main(coupon_svc::SERVICE)
}
