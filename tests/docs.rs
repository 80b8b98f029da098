//! What the documentation names exists: tests by their names, files by their paths.

use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_test_that_the_documentation_names_exists() {
    let mut sources = String::new();
    collect(&Path::new(ROOT).join("src"), &mut sources);
    collect(&Path::new(ROOT).join("tests"), &mut sources);
    let mut seen = 0;
    for page in ["docs/protocol.md", "docs/invariants.md"] {
        let text = fs::read_to_string(Path::new(ROOT).join(page)).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            let name = quoted.rsplit([':', ' ', '…']).next().unwrap_or_default();
            // Only tests have names of four words and more.
            if name.matches('_').count() >= 3 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                assert!(sources.contains(&format!("fn {name}(")), "{page} names {name}, which does not exist");
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "only {seen} names were found");
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    let entries = fs::read_dir(Path::new(ROOT).join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = entries.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    for page in pages.chain([Path::new(ROOT).join("README.md")]) {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !path.contains("://") && !path.contains(' ') {
                let target = page.parent().unwrap().join(path);
                assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            }
        }
    }
}

/// The first table of `docs/commands.md` and the command table name the same commands.
#[test]
fn every_command_stands_in_the_documentation_once() {
    let text = fs::read_to_string(Path::new(ROOT).join("docs/commands.md")).unwrap();
    let table = text.split("\n\n").find(|part| part.starts_with("| group")).unwrap();
    let named = table.split('`').skip(1).step_by(2).map(|name| name.split(' ').next().unwrap().to_ascii_lowercase());
    let mut named: Vec<String> = named.collect();
    named.sort();
    // A command of which only some subcommands are there stands once for each.
    named.dedup();
    let mut known: Vec<&str> = kevy_replicate::store::command::table::all().iter().map(|spec| spec.name).collect();
    known.sort();
    assert_eq!(named, known);
}

fn collect(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *text += &fs::read_to_string(&path).unwrap();
        }
    }
}
