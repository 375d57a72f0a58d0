#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]
use integration::broker::Mosquitto;
use integration::wire::*;
use std::time::Duration;
#[test]
fn takeover_direct() {
    let b = Mosquitto::start().unwrap();
    let c = Connect::new(Version::V5, "same");
    let mut first = Client::session(b.address(), &c).unwrap();
    let _second = Client::session(b.address(), &c).unwrap();
    println!("LAST {:02x?}", first.read_to_close(Duration::from_secs(5)));
}
#[test]
fn rumqttc_direct() {
    use rumqttc::{Event, MqttOptions, Packet, QoS};
    let b = Mosquitto::start().unwrap();
    let mut options = MqttOptions::new("rumqttc-4", "127.0.0.1", b.port());
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut connection) = rumqttc::Client::new(options, 10);
    client.subscribe("rumqttc/#", QoS::ExactlyOnce).unwrap();
    let t = std::thread::spawn(move || {
        for n in 0..100 { client.publish("rumqttc/4", QoS::ExactlyOnce, false, vec![0; n * 100]).unwrap(); }
        client
    });
    let mut r = vec![];
    for event in connection.iter() {
        if let Event::Incoming(Packet::Publish(publish)) = event.unwrap() { r.push(publish.payload.len()/100); if r.len()==100 {break;} }
    }
    println!("ORDER {:?}", r);
    t.join().unwrap();
}
