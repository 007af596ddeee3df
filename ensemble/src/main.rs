//! The command line.

fn main() -> std::process::ExitCode {
    ensemble::main()
}
