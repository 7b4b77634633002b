//! A tour of the client against a ring: `chordctl dev`, then `cargo run -p chord-client --example tour`.
use chord_client::{Client, ClientSettings, CompareAndSet, Done, Endpoints, Error, Operation, Put, Scan};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7401".into());
    // Any member will do: it knows the others.
    let client = Client::connect(Endpoints::new([endpoint]), ClientSettings::default()).await?;

    // Written means: on the disks of a majority.
    let version = client.put(Put::new("tour/colour", "green")).await?;
    println!("tour/colour has version {version}");
    let found = client.get("tour/colour").await?.ok_or("it was just written")?;
    println!("and holds {:?}", found.value);

    // A lease: whoever creates the key holds it until it expires.
    let lease = CompareAndSet::new("tour/lease", "me").expect_absent().ttl(Duration::from_secs(2));
    for _ in 0..2 {
        let taken = client.compare_and_set(lease.clone()).await?;
        println!("lease {}", if taken.applied { "taken" } else { "held by somebody" });
    }

    // Several operations in few calls.
    let writes = (0..10).map(|number| Operation::Put(Put::new(format!("tour/{number}"), format!("{number}"))));
    let written = client.batch(writes).await.into_iter().filter(|result| matches!(result, Ok(Done::Put(_)))).count();
    println!("{written} of 10 written");

    // All keys of the ring, page by page.
    let (mut scan, mut keys) = (Scan::new().limit(1000).keys_only(), 0);
    loop {
        let page = client.scan(scan.clone()).await?;
        keys += page.entries.len();
        let Some(next) = page.next else { break };
        scan = scan.after(next);
    }
    println!("the ring holds {keys} keys");

    // What to do about errors; here there is none.
    match client.put(Put::new("tour/last", "word")).await {
        Ok(_) => println!("done"),
        Err(Error::OutcomeUnknown { attempted, .. }) => {
            // It may have been written: the same write again, with its name, takes effect once at most.
            client.put(Put::new("tour/last", "word").resume(attempted)).await?;
        }
        Err(Error::Overloaded { retry_after, .. }) => {
            println!("the ring has too much to do; come back in {retry_after:?}")
        }
        Err(other) => return Err(other.into()),
    }
    Ok(())
}
