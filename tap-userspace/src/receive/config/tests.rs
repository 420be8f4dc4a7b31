use super::*;

fn read(text: &str) -> Result<ReceiveConfig, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("receive.toml");
    std::fs::write(&path, text).unwrap();
    ReceiveConfig::read(&path)
}

fn text(rest: &str) -> String {
    format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n[tls]\nca_file = \"ca.pem\"\ncertificate_file = \"/c.pem\"\n\
         key_file = \"k.pem\"\n[store]\ndirectory = \"store\"\n{rest}"
    )
}

#[test]
fn relative_paths_count_from_the_file() {
    let config = read(&text("")).unwrap();
    assert!(config.tls.ca_file.ends_with("ca.pem") && config.tls.ca_file.is_absolute());
    assert_eq!(config.tls.certificate_file, Path::new("/c.pem"));
}

#[test]
fn refusals_name_the_key() {
    let host =
        |id: &str, certificate: &str| format!("[[host]]\nid = \"{id}\"\ncertificate_sha256 = \"{certificate}\"\n");
    let (a, b) = ("aa".repeat(32), "bb".repeat(32));
    for (rest, named) in [
        (host("12", &b), "host[0].id"),
        (host(&a, "12"), "host[0].certificate_sha256"),
        (host(&a, &b) + &host(&a, &b), "host[1].id: is the same as host[0].id"),
        ("[metrics]\nlisten = \"192.0.2.1:1\"\n".into(), "metrics.listen"),
        ("[other]\n".into(), "unknown field `other`"),
    ] {
        let error = read(&text(&rest)).unwrap_err().to_string();
        assert!(error.contains("receive.toml") && error.contains(named), "{error}");
    }
}

#[test]
fn a_stream_is_taken_from_where_the_word_and_the_table_say_so() {
    let host = format!("[[host]]\nid = \"{}\"\ncertificate_sha256 = \"{}\"\n", "aa".repeat(32), "bb".repeat(32));
    let server = "[[jetstream.server]]\nendpoint = \"192.0.2.1:4222\"\nserver_name = \"nats.example\"\n";
    let table = |rest: &str| format!("{host}[jetstream]\nca_file = \"ca.pem\"\n{rest}\n");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("receive.toml");
    let read = |text: &str, from_jetstream| {
        std::fs::write(&path, text).unwrap();
        ReceiveConfig::read_for(&path, from_jetstream)
    };
    let whole = text(&(table("") + server));
    let config = read(&whole, true).unwrap();
    let stream = config.jetstream.unwrap();
    assert!(stream.takes(&[0xaa; 32]) && stream.stream == "gwtap" && config.listen.is_some());
    assert!(read(&whole, false).unwrap().jetstream.is_none());
    let (_, unheard) = whole.split_once("[tls]").unwrap();
    let unheard = format!("[tls]{unheard}");
    assert!(read(&unheard, true).unwrap().listen.is_none());
    for (text, from_jetstream, named) in [
        (unheard.as_str(), false, "listen.address: is missing"),
        (&text(&host), true, "jetstream: is missing"),
        (&text(&(table("stream = \"a.b\"") + server)), true, "jetstream.stream: `a.b`"),
        (&text(&(table("hosts = [\"cc\"]") + server)), true, "jetstream.hosts: cc"),
        (&text(&table("server = []")), true, "jetstream.server: is missing"),
        (&text(&(table("") + &server.replace("nats.example\"", "n n\""))), true, "jetstream.server[0]"),
    ] {
        let error = read(text, from_jetstream).unwrap_err().to_string();
        assert!(error.contains(named), "{named}: {error}");
    }
}

#[test]
fn a_host_is_admitted_with_its_own_certificate_only() {
    let colons = vec!["BB"; 32].join(":");
    let host = format!("[[host]]\nid = \"{}\"\ncertificate_sha256 = \"{colons}\"\n", "aa".repeat(32));
    let config = read(&text(&host)).unwrap();
    assert_eq!(config.admit(&[0xaa; 32], &[0xbb; 32]), Ok(()));
    assert!(config.admit(&[0xaa; 32], &[0xcc; 32]).is_err());
    assert!(config.admit(&[0xab; 32], &[0xbb; 32]).is_err());
}
