//! What survives a stop.

use crate::one::One;

#[tokio::test]
async fn stopped_member_comes_back_with_its_data_and_ids() {
    let one = One::start_with(|config| config.engine = Default::default()).await;
    one.put("a", "1").await;
    let id = one.member.id();
    let dir = one.stop().await;
    let one = One::start_in(dir, |config| {
        config.engine = Default::default();
        // With data present the flags of bootstrap say nothing.
        config.token = "another".to_owned();
    })
    .await;
    assert_eq!(one.member.id(), id);
    let read = one.get("a").await;
    assert_eq!(read.kvs[0].value(), "1");
    assert_eq!(read.header.unwrap().revision, 2);
    assert_eq!(one.put("a", "2").await.revision, 3);
}

#[tokio::test]
async fn port_that_is_taken_is_named_before_anything_is_written() {
    let one = One::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = crate::one::config(&dir);
    config.listen_client = vec![one.url("").parse().unwrap()];
    let refused = catena_server::Member::start(config, catena_runtime::Runtime::system()).await;
    let text = refused.err().unwrap().to_string();
    assert!(
        text.starts_with(&format!("cannot listen on {}", one.url(""))),
        "{text}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
