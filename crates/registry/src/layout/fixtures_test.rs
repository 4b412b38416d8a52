//! Keys and values to the byte, both ways, as the other programs write and read them.

use super::*;
use crate::{Endpoint, Scheme, Status, Ulid};

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

fn user() -> Instance {
    let endpoints =
        ["http://10.0.0.3:8000", "grpc://10.0.0.3:9000"].map(|text| text.parse().unwrap());
    Instance {
        version: "v1.2".to_owned(),
        ..Instance::new(service("user"), "7f3a", endpoints.into())
    }
}

fn read(area: Area, rest: &str, value: &str) -> Result<Entry, Unreadable> {
    decode(
        area,
        &service("user"),
        rest,
        &Bytes::copy_from_slice(value.as_bytes()),
        5,
    )
}

fn written(layout: Layout, instance: &Instance) -> (String, String) {
    (
        layout.key("default", instance, 7_587_862_094_724_130_561),
        layout.value(instance),
    )
}

#[test]
fn native_is_what_the_reference_shows() {
    let mut instance = user();
    instance.epoch = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    instance.registered_at_ms = 1_700_000_000_000;
    instance.zone = Some("a".to_owned());
    instance.metadata.insert("k".to_owned(), "<v>".to_owned());
    let (key, value) = written(Layout::Native, &instance);
    assert_eq!(key, "/registry/v1/default/user/7f3a");
    assert_eq!(
        value,
        r#"{"v":1,"id":"7f3a","service":"user","version":"v1.2","endpoints":["http://10.0.0.3:8000","grpc://10.0.0.3:9000"],"weight":100,"enabled":true,"status":"up","region":null,"zone":"a","metadata":{"k":"<v>"},"registered_at_ms":1700000000000,"epoch":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#
    );
    instance.revision = 5;
    let entry = read(Area::Native, "7f3a", &value).unwrap();
    assert_eq!((entry.layout, entry.instance), (Layout::Native, instance));
}

#[test]
fn native_needs_four_fields_and_what_the_key_says() {
    let least = r#"{"v":1,"id":"a","service":"user","endpoints":["grpc://h:1"],"unknown":[]}"#;
    let entry = read(Area::Native, "a", least).unwrap();
    let mut expected = Instance::new(service("user"), "a", vec!["grpc://h:1".parse().unwrap()]);
    expected.revision = 5;
    assert_eq!(entry.instance, expected);
    for (rest, bad) in [
        ("b", least.to_owned()),
        ("a", least.replace("\"user\"", "\"order\"")),
        ("a", least.replace("\"v\":1", "\"v\":2")),
        ("a", least.replace("grpc://h:1", "h:1")),
        ("a", least.replace("[\"grpc://h:1\"]", "[]")),
        ("a", least.replace('}', "")),
        ("a", String::new()),
        ("", least.to_owned()),
    ] {
        assert_eq!(
            read(Area::Native, rest, &bad),
            Err(Unreadable),
            "{rest} {bad}"
        );
    }
}

#[test]
fn kratos_writes_and_reads_what_go_does() {
    let mut instance = user();
    let (key, value) = written(Layout::Kratos, &instance);
    assert_eq!(key, "/microservices/user/7f3a");
    assert_eq!(
        value,
        r#"{"id":"7f3a","name":"user","version":"v1.2","metadata":null,"endpoints":["http://10.0.0.3:8000","grpc://10.0.0.3:9000"]}"#
    );
    instance.weight = 30;
    instance.zone = Some("z<1".to_owned());
    instance
        .metadata
        .insert("canary".to_owned(), "a&b".to_owned());
    let value = Layout::Kratos.value(&instance);
    assert!(
        value.contains(r#""metadata":{"canary":"a\u0026b","weight":"30","zone":"z\u003c1"}"#),
        "{value}"
    );
    instance.revision = 5;
    assert_eq!(
        read(Area::Kratos, "7f3a", &value).unwrap().instance,
        instance
    );
}

#[test]
fn kratos_of_older_releases_says_secure_in_the_query() {
    let value = r#"{"id":"A-1","name":"user","version":"","metadata":{},"endpoints":["http://h:1?isSecure=true","grpcs://h:2","tcp://h:3"]}"#;
    let instance = read(Area::Kratos, "A-1", value).unwrap().instance;
    let endpoints: Vec<_> = instance.endpoints.iter().map(Endpoint::to_string).collect();
    assert_eq!(endpoints, ["https://h:1", "grpcs://h:2"]);
    assert_eq!(instance.id, "A-1");
}

#[test]
fn kratos_of_another_name_or_without_endpoint_is_left_out() {
    for value in [
        r#"{"id":"1","name":"order","endpoints":["http://h:1"]}"#,
        r#"{"id":"1","name":"user","endpoints":null}"#,
        r#"{"id":"","name":"user","endpoints":["http://h:1"]}"#,
        "10.0.0.3:9000",
    ] {
        assert_eq!(read(Area::Kratos, "1", value), Err(Unreadable), "{value}");
    }
}

#[test]
fn grpc_naming_writes_and_reads_what_go_does() {
    let (key, value) = written(Layout::GrpcNaming, &user());
    assert_eq!(key, "user/10.0.0.3:9000");
    assert_eq!(value, r#"{"Op":0,"Addr":"10.0.0.3:9000","Metadata":null}"#);
    let entry = read(Area::Root, "10.0.0.3:9000", &value).unwrap();
    assert_eq!(entry.layout, Layout::GrpcNaming);
    assert_eq!(entry.instance.id, "10.0.0.3:9000");
    assert_eq!(
        entry.instance.endpoints,
        [Endpoint::at(Scheme::Grpc, "10.0.0.3:9000").unwrap()]
    );
    let labelled = r#"{"Op":0,"Addr":"h:1","Metadata":{"zone":"a","n":1}}"#;
    let metadata = read(Area::Root, "x", labelled).unwrap().instance.metadata;
    assert_eq!(
        metadata.into_iter().collect::<Vec<_>>(),
        [("zone".to_owned(), "a".to_owned())]
    );
    let deletion = r#"{"Op":1,"Addr":"h:1","Metadata":null}"#;
    assert_eq!(read(Area::Root, "x", deletion), Err(Unreadable));
}

#[test]
fn go_zero_has_the_lease_in_the_key_and_the_address_in_the_value() {
    let mut instance = user();
    instance.service = service("user.rpc");
    let (key, value) = written(Layout::GoZero, &instance);
    assert_eq!(key, "user.rpc/7587862094724130561");
    assert_eq!(value, "10.0.0.3:9000");
    let entry = read(Area::Root, "7587862094724130561", &value).unwrap();
    assert_eq!(entry.layout, Layout::GoZero);
    assert_eq!(
        entry.instance.endpoints[0].to_string(),
        "grpc://10.0.0.3:9000"
    );
}

#[test]
fn the_article_s_value_is_the_first_address() {
    let (key, value) = written(Layout::Article, &user());
    assert_eq!(
        (key.as_str(), value.as_str()),
        ("/services/user/7f3a", "10.0.0.3:8000")
    );
    // The article's own example.
    let entry = read(Area::Article, "1", "192.168.1.100:8080").unwrap();
    let endpoints: Vec<_> = entry
        .instance
        .endpoints
        .iter()
        .map(Endpoint::to_string)
        .collect();
    assert_eq!(
        endpoints,
        ["http://192.168.1.100:8080", "grpc://192.168.1.100:8080"]
    );
    assert_eq!(read(Area::Article, "1", "nonsense"), Err(Unreadable));
}

#[test]
fn only_native_shows_an_instance_that_wants_no_calls() {
    let mut draining = user();
    draining.status = Status::Draining;
    let mut disabled = user();
    disabled.enabled = false;
    for layout in Layout::ALL {
        assert!(layout.shows(&user()), "{layout:?}");
        for quiet in [&draining, &disabled] {
            assert_eq!(layout.shows(quiet), layout == Layout::Native, "{layout:?}");
        }
    }
}

#[test]
fn a_prefix_never_holds_another_service() {
    for area in Area::ALL {
        let prefix = area.prefix("default", &service("user"));
        let other = area.prefix("default", &service("user-admin"));
        assert!(
            area == Area::Settings || !other.starts_with(&prefix),
            "{area:?}"
        );
    }
}

#[test]
fn overrides_and_settings_are_what_the_reference_shows() {
    let over: Override =
        serde_json::from_str(r#"{"enabled":false,"weight":10,"status":"draining"}"#).unwrap();
    let mut instance = user();
    over.apply(&mut instance);
    assert_eq!(
        (instance.enabled, instance.weight, instance.status),
        (false, 10, Status::Draining)
    );
    let partial: Override = serde_json::from_str(r#"{"weight":10}"#).unwrap();
    assert_eq!(serde_json::to_string(&partial).unwrap(), r#"{"weight":10}"#);
    let text = r#"{"panic_threshold":0.5,"lb":"p2c-ewma","subset":25,"labels":{"v":"2"}}"#;
    let settings: ServiceSettings = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&settings).unwrap(), text);
    let name = service("user");
    assert_eq!(
        override_key("default", &name, "7f3a"),
        "/registry-override/v1/default/user/7f3a"
    );
    assert_eq!(
        settings_key("default", &name),
        "/registry-service/v1/default/user"
    );
    assert_eq!(
        slot_prefix("default", &name),
        "/registry-client/v1/default/user/"
    );
    assert_eq!(Ulid::default(), Ulid::NIL);
}
