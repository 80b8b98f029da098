//! Imports go downwards only: the layers of `src/lib.rs`, held by a test. It reads the sources as tokens, so that what
//! a comment or a string names does not count. It is no Rust parser: what a macro makes up is not seen.
//!
//! ```text
//! main → server → runtime → shard → store → source slot snapshot replica → wire handshake resp → buffer id limits slotset timeline
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up. Modules of one layer may import each other as long as there is no cycle.
const LAYERS: &[&[&str]] = &[
    &["buffer", "id", "limits", "slotset", "timeline"],
    &["wire", "handshake", "resp"],
    &["source", "slot", "snapshot", "replica"],
    &["store"],
    &["shard"],
    &["runtime"],
    &["server"],
    &["main"],
];

/// The one file below `runtime/` that opens a socket.
const BLOCKING_CLIENT: &str = "replica/client.rs";

/// Names whose use means that a file opens sockets; addresses are not among them.
const SOCKETS: &[&str] = &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener", "socket2"];

#[test]
fn imports_go_downwards_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    assert!(files.len() > 5, "only {} files below {}", files.len(), src.display());
    let sources: Vec<(String, String)> = files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(&src).expect("below src").to_string_lossy().replace('\\', "/");
            (path, fs::read_to_string(file).expect("a readable source file"))
        })
        .collect();
    let found = violations(sources.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn planted_imports_are_found() {
    let one = |path: &str, text: &str| violations([(path, text)]);
    assert_eq!(one("wire/frame.rs", "use crate::id::Offset; use super::argv::Argv;"), [""; 0]);
    assert_eq!(one("wire/frame.rs", "use crate::store::Db;"), ["wire/frame.rs: `wire` must not import `store`"]);
    assert_eq!(one("wire.rs", "use super::store::Db;"), ["wire.rs: `wire` must not import `store`"]);
    assert_eq!(one("wire/a.rs", "fn f() { super::super::shard::f() }"), ["wire/a.rs: `wire` must not import `shard`"]);
    assert_eq!(
        one("store/set.rs", "use crate::{id::{HashSlot, Offset}, wire::Argv, runtime::mesh};"),
        ["store/set.rs: `store` must not import `runtime`"]
    );
    assert_eq!(one("shard/mod.rs", "fn f() { glommio::yield_if_needed() }"), ["shard/mod.rs: names glommio"]);
    assert_eq!(one("runtime/mod.rs", "use glommio::Task;"), [""; 0]);
    assert_eq!(
        one("source/mod.rs", "use std::net::{IpAddr, TcpStream};"),
        ["source/mod.rs: opens sockets (TcpStream)"]
    );
    assert_eq!(one(BLOCKING_CLIENT, "use std::net::TcpStream;"), [""; 0]);
    assert_eq!(one("zoo.rs", ""), ["zoo.rs: `zoo` has no layer"]);
}

#[test]
fn siblings_import_each_other_without_cycles() {
    let forth = ("replica/mod.rs", "use crate::snapshot::Keyspace;");
    let back = ("snapshot/mod.rs", "use crate::replica::Session;");
    assert_eq!(violations([forth]), [""; 0]);
    assert_eq!(violations([forth, back]), ["a cycle: replica → snapshot → replica"]);
}

#[test]
fn comments_and_strings_do_not_count() {
    let text = r##"
        //! [`Source`]: crate::source::Source
        /* crate::store /* nested */ crate::store */
        const A: &str = "crate::store \" crate::store";
        const B: &str = r#"crate::store " crate::store"#;
        const C: char = '"'; const D: char = '\''; fn f<'a>(x: &'a str) {}
        const E: &[u8] = b"crate::store";
    "##;
    assert_eq!(violations([("wire/mod.rs", text)]), [""; 0]);
    let after = format!("{text} use crate::store::Db;");
    assert_eq!(violations([("wire/mod.rs", after.as_str())]).len(), 1, "the lexer lost its way");
}

/// What is wrong with `sources`, pairs of a path below `src/` and its text; a line each.
fn violations<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut found = Vec::new();
    let mut siblings: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, text) in sources {
        let module = path.split('/').next().expect("not empty").trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let Some(rank) = rank(module) else {
            found.push(format!("{path}: `{module}` has no layer"));
            continue;
        };
        let tokens = tokens(text);
        for import in imports(path, &tokens) {
            match self::rank(import) {
                Some(other) if other > rank => {
                    found.push(format!("{path}: `{module}` must not import `{import}`"));
                }
                Some(other) if other == rank && import != module => {
                    let from = known(module).expect("it has a rank");
                    siblings.entry(from).or_default().insert(import);
                }
                _ => {}
            }
        }
        if module != "runtime" && tokens.iter().any(|t| t == "glommio") {
            found.push(format!("{path}: names glommio"));
        }
        if !matches!(module, "runtime" | "server")
            && path != BLOCKING_CLIENT
            && let Some(name) = SOCKETS.iter().find(|name| tokens.iter().any(|t| t == *name))
        {
            found.push(format!("{path}: opens sockets ({name})"));
        }
    }
    found.extend(cycle(&siblings));
    found
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules at the crate's root that `tokens` name, by `crate::` or by enough `super::`.
fn imports(path: &str, tokens: &[String]) -> BTreeSet<&'static str> {
    let depth = path.trim_end_matches("/mod.rs").trim_end_matches(".rs").split('/').count();
    let mut named = BTreeSet::new();
    let mut i = 0;
    while i < tokens.len() {
        let root = match tokens[i].as_str() {
            "crate" => i + 1,
            "super" => {
                let mut supers = 1;
                while tokens.get(i + 1).is_some_and(|t| t == "::") && tokens.get(i + 2).is_some_and(|t| t == "super") {
                    supers += 1;
                    i += 2;
                }
                if supers < depth {
                    i += 1;
                    continue;
                }
                i + 1
            }
            _ => {
                i += 1;
                continue;
            }
        };
        i += 1;
        if tokens.get(root).is_some_and(|t| t == "::") {
            named.extend(heads(&tokens[root + 1..]).iter().filter_map(|name| known(name)));
        }
    }
    named
}

/// The first names of a path or of a `{…}` of paths.
fn heads(tokens: &[String]) -> Vec<&str> {
    match tokens.first().map(String::as_str) {
        Some("{") => {}
        Some(name) => return vec![name],
        None => return Vec::new(),
    }
    let mut names = Vec::new();
    let mut open = 1;
    let mut at_head = true;
    for token in &tokens[1..] {
        match token.as_str() {
            "{" => open += 1,
            "}" => open -= 1,
            "," if open == 1 => {
                at_head = true;
                continue;
            }
            name if at_head => names.push(name),
            _ => {}
        }
        at_head = false;
        if open == 0 {
            break;
        }
    }
    names
}

fn known(name: &str) -> Option<&'static str> {
    LAYERS.iter().flat_map(|layer| layer.iter()).find(|module| **module == name).copied()
}

/// A cycle among modules of one layer, if there is one.
fn cycle(edges: &BTreeMap<&str, BTreeSet<&str>>) -> Option<String> {
    fn visit<'a>(at: &'a str, edges: &BTreeMap<&'a str, BTreeSet<&'a str>>, path: &mut Vec<&'a str>) -> bool {
        let seen = path.contains(&at);
        path.push(at);
        if seen {
            return true;
        }
        for next in edges.get(at).into_iter().flatten() {
            if visit(next, edges, path) {
                return true;
            }
        }
        path.pop();
        false
    }
    edges.keys().find_map(|start| {
        let mut path = Vec::new();
        visit(start, edges, &mut path).then(|| format!("a cycle: {}", path.join(" → ")))
    })
}

/// The names and punctuation of a Rust source, without comments, strings and character literals.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if rest.starts_with("/*") {
            rest = after_block_comment(rest);
        } else if let Some(after) = after_raw_string(rest) {
            rest = after;
        } else if c == '"' {
            rest = after_quoted(rest, '"');
        } else if c == '\'' {
            // A lifetime has no closing quote after its first character; a character literal does.
            let mut chars = rest.chars().skip(1);
            let (first, second) = (chars.next(), chars.next());
            rest = if first == Some('\\') || second == Some('\'') { after_quoted(rest, '\'') } else { &rest[1..] };
        } else if c.is_alphanumeric() || c == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(rest[..end].to_owned());
            rest = &rest[end..];
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            rest = &rest[2..];
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            rest = &rest[c.len_utf8()..];
        }
    }
    tokens
}

fn after_block_comment(text: &str) -> &str {
    let mut open = 0;
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix("/*") {
            open += 1;
            rest = after;
        } else if let Some(after) = rest.strip_prefix("*/") {
            open -= 1;
            rest = after;
        } else {
            let Some(c) = rest.chars().next() else { return "" };
            rest = &rest[c.len_utf8()..];
        }
        if open == 0 {
            return rest;
        }
    }
}

fn after_raw_string(text: &str) -> Option<&str> {
    let body = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let opened = body.trim_start_matches('#');
    let hashes = &body[..body.len() - opened.len()];
    let inside = opened.strip_prefix('"')?;
    let close = format!("\"{hashes}");
    Some(inside.split_once(&close).map_or("", |(_, after)| after))
}

fn after_quoted(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return &text[i + c.len_utf8()..],
            _ => {}
        }
    }
    ""
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}
