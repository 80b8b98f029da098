//! Commands of Redis that are not here on purpose: what they are, and why there is none of it. Who sends one is told so, instead
//! of that nobody knows the word; `docs/commands.md` lists them.

/// Commands that are not here for one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Absent {
    /// Their names, in lower case; of a subcommand `client|tracking`.
    pub names: &'static [&'static str],
    /// What is not here, and what there is instead: a sentence that begins with "kevy".
    pub why: &'static str,
}

/// The reason for which there is no command of this name, in whatever case, if it is absent on purpose.
#[cold]
pub fn find(verb: &[u8]) -> Option<&'static Absent> {
    ABSENT.iter().find(|absent| absent.names.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(verb)))
}

/// All of them, by reason.
pub fn all() -> &'static [Absent] {
    ABSENT
}

const ABSENT: &[Absent] = &[
    Absent {
        names: &["eval", "eval_ro", "evalsha", "evalsha_ro", "script"],
        why: "kevy has no scripts; MULTI and WATCH do several commands as one",
    },
    Absent { names: &["fcall", "fcall_ro", "function"], why: "kevy has no functions" },
    Absent { names: &["module"], why: "kevy has no modules" },
    Absent { names: &["failover"], why: "kevy does not hand over by itself; REPLICAOF NO ONE promotes a replica" },
    Absent {
        names: &["sync", "psync", "replconf"],
        why: "kevy does not replicate over client ports; replicas connect to repl_port_base",
    },
    Absent {
        names: &["migrate", "restore-asking", "asking"],
        why: "kevy does not move keys between nodes; DUMP and RESTORE carry single ones",
    },
    Absent { names: &["swapdb"], why: "kevy has one database" },
    Absent { names: &["save", "bgsave", "bgrewriteaof"], why: "kevy does not write its data to disk" },
    Absent { names: &["pfdebug", "pfselftest"], why: "kevy has none of the tests that are built into Redis" },
    Absent { names: &["lolwut"], why: "kevy does not draw" },
    Absent {
        names: &[
            "acl|cat",
            "acl|deluser",
            "acl|dryrun",
            "acl|genpass",
            "acl|getuser",
            "acl|help",
            "acl|list",
            "acl|load",
            "acl|log",
            "acl|save",
            "acl|setuser",
            "acl|users",
        ],
        why: "kevy has no users but default, whose password is requirepass; only ACL WHOAMI is answered",
    },
    Absent {
        names: &["client|caching", "client|tracking", "client|trackinginfo"],
        why: "kevy does not follow what clients keep of what they read",
    },
    Absent {
        names: &[
            "cluster|addslots",
            "cluster|addslotsrange",
            "cluster|bumpepoch",
            "cluster|count-failure-reports",
            "cluster|delslots",
            "cluster|delslotsrange",
            "cluster|failover",
            "cluster|flushslots",
            "cluster|forget",
            "cluster|meet",
            "cluster|replicate",
            "cluster|reset",
            "cluster|saveconfig",
            "cluster|set-config-epoch",
            "cluster|setslot",
        ],
        why: "kevy is not a cluster that could be managed; REPLICAOF says who follows whom",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::command::table;

    #[test]
    fn what_is_absent_is_not_in_the_table() {
        let names: Vec<&str> = ABSENT.iter().flat_map(|absent| absent.names).copied().collect();
        for name in &names {
            assert!(table::find_named(name.as_bytes()).is_none(), "{name}");
            let verb = name.split('|').next().unwrap();
            assert_eq!(table::find(verb.as_bytes()).is_some(), verb != *name, "{name}");
            assert!(find(name.to_ascii_uppercase().as_bytes()).is_some(), "{name}");
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name} stands once");
        }
        assert!(ABSENT.iter().all(|absent| absent.why.starts_with("kevy ")));
        assert!(find(b"get").is_none() && find(b"").is_none());
    }
}
