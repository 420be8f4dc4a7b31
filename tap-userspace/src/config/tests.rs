use super::*;
use crate::control::api::rights::Role;

const EXAMPLE: &str = include_str!("../../../deploy/gwtap.example.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::from_toml(text, Path::new("/etc/gwtap/gwtap.toml"))
}

fn refusal(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "the example has no `{from}`");
    parse(&EXAMPLE.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn the_example_is_a_configuration_and_its_comments_are_the_defaults() {
    let plain = parse(EXAMPLE).unwrap();
    let uncommented: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") && !rest.starts_with([' ']) && !rest.starts_with(char::is_uppercase) => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let spelt_out = parse(&uncommented).unwrap();
    assert_eq!(format!("{plain:?}"), format!("{spelt_out:?}"));
    for key in [
        "bytes_max",
        "sync",
        "listen",
        "socket",
        "pin_directory",
        "kind",
        "template",
        "acknowledgement",
        "attach",
        "new_seed_at",
    ] {
        assert!(uncommented.contains(&format!("\n{key} = ")), "{key} is not shown in the example");
    }
}

#[test]
fn the_control_api_of_the_example_is_read_and_a_client_has_one_role() {
    let begin = EXAMPLE.find("#  [control.api]").unwrap();
    let block = EXAMPLE[begin..].split("\n\n").next().unwrap();
    let text = |more: &str| EXAMPLE.replacen(block, &format!("{}\n{more}", block.replace("#  ", "")), 1);
    let config = parse(&text("")).unwrap();
    let api = config.control.api.as_ref().unwrap();
    assert_eq!(api.roles(), [("author.team.example".to_owned(), Role::SelectorAuthor)].into());
    assert_eq!(api.files().certificate.to_str(), Some("/etc/gwtap/tls/api.pem"));
    assert!(config.agent_needs().reach != parse(EXAMPLE).unwrap().agent_needs().reach);
    let client =
        |name: &str, role: &str| text(&format!("[[control.api.client]]\nname = \"{name}\"\nrole = \"{role}\"\n"));
    parse(&client("approver.team.example", "approver")).unwrap();
    for (text, message) in [
        (client("Author.Team.Example", "approver"), "client[1].name: is that of client[0] too; a client has one role"),
        (client("", "approver"), "client[1].name: `` is no DNS name"),
        (client("a b", "approver"), "client[1].name: `a b` is no DNS name"),
        (client("b.example", "anything"), "unknown variant `anything`"),
        (text("").replacen("tls/api.key", "", 1), "control.api.key_file: is empty"),
        (text("").replace("[[control.api.client]]", "[[control.api.clients]]"), "clients"),
    ] {
        let refused = parse(&text).unwrap_err().to_string();
        assert!(refused.contains(message), "{message}: {refused}");
    }
}

#[test]
fn further_receiving_facilities_are_read_and_checked_as_the_first() {
    const FURTHER: &str =
        "#  [[measure.export.further]]\n#  endpoint = \"receive-2.example:4740\"\n#  server_name = \"receive.example\"";
    assert!(EXAMPLE.contains(FURTHER));
    let text = |further: &str| EXAMPLE.replacen(FURTHER, &further.replace("#  ", ""), 1);
    let config = parse(&text(FURTHER)).unwrap();
    let receivers: Vec<_> = config.measures.first().unwrap().export.receivers().collect();
    assert_eq!(receivers, [("receive.example:4740", "receive.example"), ("receive-2.example:4740", "receive.example")]);
    for (from, to, message) in [
        (
            "receive-2.example:4740",
            "receive-2.example",
            "measure[0].export.endpoint: `receive-2.example` is not HOST:PORT",
        ),
        ("server_name = \"receive.example\"", "server_name = \"\"", "measure[0].export.server_name: is empty"),
    ] {
        let refused = parse(&text(&FURTHER.replacen(from, to, 1))).unwrap_err().to_string();
        assert!(refused.contains(message), "{to}: {refused}");
    }
}

#[test]
fn a_stream_is_named_where_messages_go_to_one_and_nowhere_else() {
    const KIND: &str = "# kind = \"ipfix\"";
    let stream = |text: &str| {
        parse(text).map(|config| config.measures.first().and_then(|measure| measure.export.stream().map(str::to_owned)))
    };
    assert_eq!(stream(EXAMPLE).unwrap(), None);
    let published = EXAMPLE.replacen(KIND, "kind = \"jetstream\"", 1);
    assert_eq!(stream(&published).unwrap().as_deref(), Some("gwtap"));
    let with = |line: &str| published.replacen("\n[measure.export]\n", &format!("\n[measure.export]\n{line}\n"), 1);
    assert_eq!(stream(&with("stream = \"m-1\"")).unwrap().as_deref(), Some("m-1"));
    for (text, message) in [
        (with("stream = \"a.b\""), "measure[0].export.stream: `a.b` is no name"),
        (with("acknowledgement = \"none\""), "measure[0].export.acknowledgement: \"none\" is not for"),
        (
            EXAMPLE.replacen("\n[measure.export]\n", "\n[measure.export]\nstream = \"gwtap\"\n", 1),
            "measure[0].export.stream: is for kind = \"jetstream\" alone",
        ),
    ] {
        let refused = stream(&text).unwrap_err().to_string();
        assert!(refused.contains(message), "{refused}");
    }
}

/// The example with its optional section taken out of its comment.
fn with_transport() -> String {
    let (section, rest): (Vec<&str>, Vec<&str>) = EXAMPLE.lines().partition(|line| line.starts_with("#   "));
    assert_eq!(section.first(), Some(&"#   [mirror.transport]"));
    let section: Vec<&str> = section.iter().map(|line| line.trim_start_matches("#   ")).collect();
    [rest, section].concat().join("\n")
}

#[test]
fn a_mirror_transport_is_read_and_refused_by_key() {
    assert!(parse(EXAMPLE).unwrap().mirror.transport.is_none());
    let text = with_transport();
    let read = parse(&text).unwrap().mirror.transport.unwrap();
    assert_eq!(read.to_string(), "vxlan,local=192.0.2.10,port=4789,key=5");
    for (from, to, message) in [
        ("port = 4789", "port = 0", "mirror.transport.port: 0 is no UDP port"),
        ("kind = \"vxlan\"", "kind = \"erspan\"", "mirror.transport.port: is for vxlan alone"),
        ("key = 5", "key = 16777216", "mirror.transport.key: 16777216 is over 16777215"),
        ("local = [\"192.0.2.10\"]", "local = []", "mirror.transport.local: is empty"),
        ("# mode = \"mirror\"", "mode = \"inline\"", "mirror.transport: is for a port that receives copies"),
        ("kind = \"vxlan\"", "kind = \"geneve\"", "unknown variant `geneve`"),
        ("key = 5", "session = 5", "unknown field `session`"),
    ] {
        assert!(text.contains(from), "{from}");
        let refused = parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(refused.contains(message), "{to}: {refused}");
    }
}

#[test]
fn paths_are_taken_from_the_files_directory() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.measures[0].order_file, Path::new("/etc/gwtap/order.note"));
    assert_eq!(config.measures[0].spool.directory, Path::new("/var/lib/gwtap/spool"));
    assert_eq!(config.mirror.pin_directory, Path::new("/sys/fs/bpf/gwtap"));
}

#[test]
fn an_unknown_key_is_refused_by_file_line_section_and_key() {
    let message = refusal("roots_file = ", "root_file = ");
    assert!(message.starts_with("/etc/gwtap/gwtap.toml:"), "{message}");
    assert!(message.contains("[trust] root_file: unknown field `root_file`"), "{message}");
    assert!(message.contains("gwtap.example.toml"), "{message}");
}

#[test]
fn a_missing_key_is_refused_by_section() {
    let message = refusal("server_name = \"receive.example\"\n", "");
    assert!(message.contains("[measure.export]") && message.contains("missing field `server_name`"), "{message}");
}

#[test]
fn a_metrics_address_that_is_not_loopback_is_refused() {
    let message = refusal("# listen = \"127.0.0.1:9464\"", "listen = \"0.0.0.0:9464\"");
    assert!(message.contains("metrics.listen: 0.0.0.0:9464 is not loopback"), "{message}");
}

#[test]
fn an_unsynchronised_clock_is_refused_beside_an_endpoint_elsewhere() {
    let asked = "synchronised = \"not-required\"";
    let message = refusal("# synchronised = \"required\"", asked);
    assert!(
        message.contains("measure[0].export.endpoint: clock.synchronised: \"not-required\" is refused"),
        "{message}"
    );

    let with_clock = EXAMPLE.replacen("# synchronised = \"required\"", asked, 1);
    for endpoint in ["127.0.0.1:4740", "[::1]:4740", "localhost:4740", "127.8.0.1:1"] {
        let text = with_clock.replacen("receive.example:4740", endpoint, 1);
        assert!(parse(&text).unwrap().clock_not_required(), "{endpoint}");
    }
    let laboratory = with_clock.replacen("# laboratory_namespace = false", "laboratory_namespace = true", 1);
    assert!(parse(&laboratory).unwrap().clock_not_required());
}

#[test]
fn values_outside_their_bounds_are_refused_by_key() {
    for (from, to, key) in [
        ("endpoint = \"receive.example:4740\"", "endpoint = \"receive.example\"", "measure[0].export.endpoint"),
        ("endpoint = \"receive.example:4740\"", "endpoint = \"::1:4740\"", "measure[0].export.endpoint"),
        ("endpoint = \"receive.example:4740\"", "endpoint = \"receive.example:0\"", "measure[0].export.endpoint"),
        ("interface = \"mirror0\"", "interface = \"a-name-of-16-byte\"", "mirror.interface"),
        ("interface = \"mirror0\"", "interface = \"lo\"", "mirror.interface"),
        ("date = \"2026-11-01\"", "date = \"2026-13-01\"", "country_table.date"),
        ("date = \"2026-11-01\"", "", "country_table.date"),
        ("# bytes_max = 4294967296", "bytes_max = 4096", "measure[0].spool.bytes_max"),
        ("name = \"mirror-1\"", "name = \"mirror 1\"", "host.name"),
        ("order_file = \"order.note\"", "order_file = \"\"", "measure[0].order_file"),
        ("# new_seed_at = [\"00:00\"]", "new_seed_at = [\"24:01\"]", "sampling.new_seed_at"),
    ] {
        let message = refusal(from, to);
        assert!(message.contains(&format!("gwtap.toml: {key}: ")), "{key}: {message}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let message = Config::load(Path::new("/nonexistent/gwtap.toml")).unwrap_err().to_string();
    assert!(message.starts_with("/nonexistent/gwtap.toml: cannot be read"), "{message}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\[[a-z_]{0,8}\\]\n|[a-z_]{1,8} = [\"0-9a-z]{0,6}\n|.{0,20}\n){0,8}") {
        drop(parse(&text));
    }
}

/// The example with a second measure behind the first, altered by `alter`.
fn two_measures(alter: impl Fn(&str) -> String) -> String {
    let begin = EXAMPLE.find("[[measure]]").unwrap();
    let end = begin + EXAMPLE[begin..].find("\n[mirror]").unwrap();
    format!("{}\n{}{}", &EXAMPLE[..end], alter(&EXAMPLE[begin..end]), &EXAMPLE[end..])
}

#[test]
fn measures_stand_beside_each_other_with_a_spool_each() {
    let text = two_measures(|one| one.replace("/spool\"", "/spool-2\"").replace("order.note", "order-2.note"));
    let config = parse(&text).unwrap();
    assert_eq!(config.measures.len(), 2);
    assert_eq!(config.measures[1].order_file, Path::new("/etc/gwtap/order-2.note"));

    let shared = parse(&two_measures(str::to_owned)).unwrap_err().to_string();
    assert!(shared.contains("measure[1].spool.directory: is that of measure[0] too"), "{shared}");
    let bad = parse(&two_measures(|one| one.replace("receive.example:4740", "nowhere"))).unwrap_err().to_string();
    assert!(bad.contains("measure[1].export.endpoint: `nowhere`"), "{bad}");
}

#[test]
fn no_measure_and_a_ninth_are_refused() {
    let begin = EXAMPLE.find("[[measure]]").unwrap();
    let end = begin + EXAMPLE[begin..].find("\n[mirror]").unwrap();
    for count in [0, 9] {
        let tables: String =
            (0..count).map(|n| EXAMPLE[begin..end].replace("/spool\"", &format!("/spool-{n}\"")) + "\n").collect();
        let none = if count == 0 { "measure = []\n" } else { "" };
        let text = format!("{none}{}{tables}{}", &EXAMPLE[..begin], &EXAMPLE[end..]);
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.contains(&format!("measure: {count} tables [[measure]]; a tap carries 1 to 8")), "{message}");
    }
}
