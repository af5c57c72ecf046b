//! `hiosc completions SHELL` and `hiosc man [COMMAND]`: what is generated from the declaration of
//! the command line.

use std::io::Write;

use clap::Args;

use crate::Error;

/// Arguments of `hiosc completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

/// Arguments of `hiosc man`.
#[derive(Args)]
pub struct ManArgs {
    /// The command that the page is about [default: hiosc itself].
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

/// Prints a script that completes arguments.
pub fn completions(args: CompletionsArgs, mut program: clap::Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "hiosc", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

/// Prints a manual page.
pub fn man(args: ManArgs, mut program: clap::Command) -> anyhow::Result<()> {
    program.build();
    let page = match &args.command {
        None => program,
        Some(name) => {
            let known = program.get_subcommands().map(|command| command.get_name().to_string()).collect::<Vec<_>>();
            let found = program.find_subcommand(name).cloned();
            found.ok_or_else(|| Error::unknown("command", name, known.iter().map(String::as_str)))?
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    Ok(std::io::stdout().write_all(&text)?)
}
