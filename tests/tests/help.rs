//! Every flag and sub-command explains itself: one short line, and a paragraph that adds to it.

use clap::{Command, CommandFactory};

/// Room for the flag itself beside it.
const LINE: usize = 80;

/// What is wrong with the first line of a help text.
fn first_line(place: &str, text: Option<String>, faults: &mut Vec<String>) {
    let text = text.unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let length = line.chars().count();
    if line.trim().is_empty() {
        faults.push(format!("{place}: has no help"));
    }
    if length > LINE {
        faults.push(format!("{place}: its first line has {length} characters, {} too many: {line}", length - LINE));
    }
    if line.ends_with('.') {
        faults.push(format!("{place}: its first line ends with a full stop: {line}"));
    }
}

/// Looks through a command as it was defined: what clap itself adds (help, version) comes later.
fn sweep(command: &Command, path: &str, faults: &mut Vec<String>) {
    for argument in command.get_arguments() {
        let place = format!("{path}: {}", argument.get_id());
        let short = argument.get_help().map(ToString::to_string);
        let long = argument.get_long_help().map(ToString::to_string).unwrap_or_default();
        if long.len() <= short.as_deref().unwrap_or_default().len() {
            faults.push(format!("{place}: --help says no more than -h"));
        }
        first_line(&place, short, faults);
    }
    for below in command.get_subcommands() {
        let place = format!("{path} {}", below.get_name());
        first_line(&place, below.get_about().map(ToString::to_string), faults);
        sweep(below, &place, faults);
    }
}

fn expect_explained<C: CommandFactory>() {
    expect_all_explained(&C::command());
}

fn expect_all_explained(command: &Command) {
    let mut faults = Vec::new();
    if command.get_about().is_none() {
        faults.push(format!("{}: does not say what it is for", command.get_name()));
    }
    sweep(command, command.get_name(), &mut faults);
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_server_explains_itself() {
    expect_explained::<vogeler_server::cli::Cli>();
}

#[test]
fn the_client_explains_itself() {
    expect_explained::<vogeler_client::cli::Cli>();
}

#[test]
fn the_runner_explains_itself() {
    expect_explained::<vogeler_runner::cli::Cli>();
}

#[test]
fn the_whole_in_one_explains_itself() {
    expect_all_explained(&vogeler_standalone::cli::Cli::definition());
}

#[test]
fn the_blowout_explains_itself() {
    expect_explained::<vogeler_blowout::cli::Cli>();
}
