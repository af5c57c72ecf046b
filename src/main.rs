//! The program `hiosc`: a command line around the library of the same name.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
