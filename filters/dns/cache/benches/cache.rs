//! What a hit, a miss and a put cost in a cache of many answers.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing, reason = "a bench")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use codec_dns::{
    Builder, Class, ClientSubnet, EdnsFlags, Flags, Name, NameBuf, Question, RecordData,
    RecordType, Section, decode,
};
use criterion::{Criterion, criterion_group, criterion_main};
use dns_cache::{Asked, AskedFlags, Cache, Limits};

const ANSWERS: usize = 10_000;

fn name(n: usize) -> NameBuf {
    NameBuf::from_text(&format!("host{n}.department.example.com")).expect("a name")
}

fn asked(name: Name<'_>, subnet: Option<ClientSubnet>) -> Asked<'_> {
    let question = Question { name, record_type: RecordType::A, class: Class::IN };
    Asked { question, flags: AskedFlags::new(Flags::RD, EdnsFlags::NONE), subnet }
}

/// An alias and four addresses.
fn answer(asked: &Asked<'_>) -> Vec<u8> {
    let mut out = vec![0; 512];
    let flags = Flags::QR.with(Flags::RD).with(Flags::RA);
    let mut builder = Builder::new(&mut out, 0, flags).expect("room");
    builder.question(&asked.question).expect("room");
    let alias = NameBuf::from_text("www.example.net").expect("a name");
    let mut add = |name, data| builder.record(Section::Answer, name, Class::IN, 300, &data);
    add(asked.question.name, RecordData::Cname(alias.as_name())).expect("room");
    for n in 1..=4 {
        let address = RecordData::A(Ipv4Addr::new(192, 0, 2, n));
        add(alias.as_name(), address).expect("room");
    }
    let len = builder.finish().expect("room");
    out.truncate(len);
    out
}

fn fill(subnet: Option<ClientSubnet>, limits: Limits) -> Cache {
    let mut cache = Cache::new(limits);
    for n in 0..ANSWERS {
        let name = name(n);
        let asked = asked(name.as_name(), subnet);
        cache.put(&asked, &decode(&answer(&asked)).expect("a message"), Duration::ZERO);
    }
    cache
}

fn cache(c: &mut Criterion) {
    let now = Duration::from_secs(100);
    let names: Vec<NameBuf> = (0..ANSWERS).map(name).collect();
    let mut n = 0;
    let mut next = move || {
        n = (n + 7_919) % ANSWERS;
        n
    };
    let mut out = Vec::with_capacity(512);
    let mut filled = fill(None, Limits::default());
    println!("{} answers take {} octets", filled.len(), filled.size());
    c.bench_function("hit, always the same", |b| {
        let asked = asked(names[7].as_name(), None);
        b.iter(|| {
            out.clear();
            filled.get(black_box(&asked), now).expect("a hit").write(&mut out, 1);
        });
    });
    c.bench_function("hit, any of 10,000", |b| {
        b.iter(|| {
            let asked = asked(names[next()].as_name(), None);
            out.clear();
            filled.get(&asked, now).expect("a hit").write(&mut out, 1);
        });
    });
    c.bench_function("miss", |b| {
        let name = NameBuf::from_text("nothing.department.example.com").expect("a name");
        let asked = asked(name.as_name(), None);
        b.iter(|| filled.get(black_box(&asked), now).is_none());
    });
    c.bench_function("hit for all, asked with a subnet", |b| {
        let subnet = ClientSubnet::new(Ipv4Addr::new(198, 51, 100, 0).into(), 24, 0);
        let mut filled = fill(subnet, Limits::default());
        b.iter(|| {
            let asked = asked(names[next()].as_name(), subnet);
            out.clear();
            filled.get(&asked, now).expect("a hit").write(&mut out, 1);
        });
    });
    let one = asked(names[7].as_name(), None);
    let octets = answer(&one);
    let message = decode(&octets).expect("a message");
    c.bench_function("put, in place", |b| b.iter(|| filled.put(&one, black_box(&message), now)));
    c.bench_function("decode, put and evict", |b| {
        let limits = Limits { max_size: 1 << 20, ..Limits::default() };
        let mut full = fill(None, limits);
        let answers: Vec<Vec<u8>> =
            names.iter().map(|name| answer(&asked(name.as_name(), None))).collect();
        b.iter(|| {
            let n = next();
            let message = decode(&answers[n]).expect("a message");
            full.put(&asked(names[n].as_name(), None), &message, now)
        });
    });
}

criterion_group!(benches, cache);
criterion_main!(benches);
