//! What kevy does not have is named, and nothing else is harmed by asking for it.

use crate::kevy::Kevy;

#[test]
fn what_is_not_there_on_purpose_is_named() {
    let node = Kevy::start(2, &["--role", "standalone"]);
    let mut connection = node.connect();
    for (command, why) in [
        ("EVAL return 0", "kevy has no scripts"),
        ("evalsha 0123 0", "kevy has no scripts"),
        ("SCRIPT LOAD x", "kevy has no scripts"),
        ("FCALL f 0", "kevy has no functions"),
        ("FUNCTION LIST", "kevy has no functions"),
        ("MODULE LIST", "kevy has no modules"),
        ("FAILOVER", "kevy does not hand over"),
        ("PSYNC ? -1", "kevy does not replicate over client ports"),
        ("MIGRATE host 1 key 0 1", "kevy does not move keys"),
        ("SWAPDB 0 1", "kevy has one database"),
        ("ACL SETUSER me", "kevy has no users but default"),
        ("CLIENT TRACKING ON", "kevy does not follow what clients keep"),
    ] {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().expect("a verb"));
        words.for_each(|word| _ = cmd.arg(word));
        let error = cmd.query::<redis::Value>(&mut connection).expect_err(command).to_string();
        assert!(error.contains("not supported") && error.contains(why), "{command}: {error}");
    }
    assert_eq!(redis::cmd("ACL").arg("WHOAMI").query::<String>(&mut connection).expect("ACL WHOAMI"), "default");
    let error = redis::cmd("NOSUCH").query::<()>(&mut connection).expect_err("no such command").to_string();
    assert!(error.contains("unknown command 'NOSUCH'"), "{error}");
    // In a transaction it is an error like any other: nothing of it is executed.
    let refused: redis::RedisResult<()> =
        redis::pipe().atomic().set("k", 1).cmd("EVAL").arg("x").query(&mut connection);
    assert!(refused.is_err());
    assert_eq!(redis::cmd("EXISTS").arg("k").query::<u64>(&mut connection).expect("EXISTS"), 0);
}
