//! What the documentation names exists: tests by their names, files by their paths.

use std::fs;
use std::path::Path;

use kevy_replicate::store::command::{absent, docs, find, table};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_test_that_the_documentation_names_exists() {
    let mut sources = String::new();
    collect(&Path::new(ROOT).join("src"), &mut sources);
    collect(&Path::new(ROOT).join("tests"), &mut sources);
    let mut seen = 0;
    for page in ["docs/protocol.md", "docs/invariants.md", "docs/full-sync.md"] {
        let text = fs::read_to_string(Path::new(ROOT).join(page)).unwrap();
        // Whether the last column of this table names tests, and nothing else.
        let mut has_tests = false;
        for line in text.lines() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            has_tests = line.starts_with('|') && (has_tests || cells.contains(&"test"));
            let last = cells.iter().rev().nth(1).copied().unwrap_or_default();
            for quoted in line.split('`').skip(1).step_by(2) {
                let name = quoted.rsplit([':', ' ', '…']).next().unwrap_or_default();
                let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                let is_test = has_tests && last.contains(&format!("`{quoted}`"));
                // Elsewhere only tests have names of four words and more.
                if is_name && name.contains('_') && (is_test || name.matches('_').count() >= 3) {
                    assert!(sources.contains(&format!("fn {name}(")), "{page} names {name}, which does not exist");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 120, "only {seen} names were found");
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

/// The tables of `docs/commands.md` that are made of the command table. Where they differ, `KEVY_WRITE_DOCS=1 cargo test --test docs` writes
/// them.
#[test]
fn the_tables_of_commands_are_made_of_the_command_table() {
    let page = Path::new(ROOT).join("docs/commands.md");
    let text = fs::read_to_string(&page).unwrap();
    let expected = between(&text, "commands", &there());
    let expected = between(&expected, "subcommands", &there_within());
    let expected = between(&expected, "absent", &not_there());
    if std::env::var_os("KEVY_WRITE_DOCS").is_some() {
        fs::write(&page, &expected).unwrap();
    } else {
        assert!(
            text == expected,
            "docs/commands.md is not made of the command table: KEVY_WRITE_DOCS=1 cargo test --test docs"
        );
    }
}

/// Every command that there is, by group.
fn there() -> String {
    let mut table = "| group | commands |\n|---|---|\n".to_owned();
    for group in docs::groups() {
        let named = group.docs.iter().filter(|doc| find(doc.name.as_bytes()).is_some());
        let names: Vec<String> = named.map(|doc| format!("`{}`", doc.name.to_ascii_uppercase())).collect();
        if !names.is_empty() {
            table += &format!("| {} | {} |\n", group.name.replace('-', " "), names.join(" "));
        }
    }
    table
}

/// Every subcommand that there is, by command.
fn there_within() -> String {
    let mut table = "| command | subcommands |\n|---|---|\n".to_owned();
    for spec in table::all().iter().filter(|spec| spec.has_subcommands()) {
        let names = spec.subcommands().iter().map(|sub| sub.name.split_once('|').map_or("", |(_, name)| name));
        let names: Vec<String> = names.map(|name| format!("`{}`", name.to_ascii_uppercase())).collect();
        table += &format!("| `{}` | {} |\n", spec.name.to_ascii_uppercase(), names.join(" "));
    }
    table
}

/// Every command that there is none of on purpose, by reason.
fn not_there() -> String {
    let mut table = "| commands | why |\n|---|---|\n".to_owned();
    for absent in absent::all() {
        let shown = |name: &&str| format!("`{}`", name.replace('|', " ").to_ascii_uppercase());
        let names: Vec<String> = absent.names.iter().map(shown).collect();
        table += &format!("| {} | {} |\n", names.join(" "), absent.why);
    }
    table
}

/// `text` with `table` between the marks that `name` has in it.
fn between(text: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: made by tests/docs.rs -->\n"), format!("<!-- end of {name} -->\n"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{begin} is missing"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{end} is missing"));
    format!("{before}{begin}{table}{end}{after}")
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
