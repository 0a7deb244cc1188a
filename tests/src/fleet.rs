//! Many nodes without many clients: producers that speak as clients do, and the oracle of what
//! became of every single result.
//!
//! Each result goes to a key of its own (`r<seq>`), so that none stands in the place of another and
//! every one can be found again: in its node's record, or among the dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;
use vogeler_messaging::amqp::AmqpSession;
use vogeler_messaging::topology::slot_key;
use vogeler_messaging::{Broker as _, Message, Properties, Publish, PublishError, Session, Topology};
use vogeler_protocol::message::{self, CommandResult, Payload};
use vogeler_protocol::{Data, NodeName, Random};

use crate::eventually::deadline;
use crate::{Site, eventually, torture};

/// Confirms that may be outstanding at once.
const WINDOW: usize = 100;

/// Nodes that send results.
pub struct Fleet {
    nodes: Vec<NodeName>,
    instances: Vec<Uuid>,
    /// How many results each node has made.
    made: Vec<u64>,
    /// Which of them the broker has confirmed; only these were promised anything.
    confirmed: BTreeSet<(usize, u64)>,
    turn: usize,
    /// How large each was made.
    sizes: BTreeMap<(usize, u64), usize>,
    /// Bytes of the largest result so far.
    largest: usize,
    random: Random,
}

/// Where the results of a fleet are.
#[derive(Debug, Default)]
pub struct Account {
    /// Confirmed by the broker.
    pub sent: usize,
    /// In the record of their node, as they were sent.
    pub stored: usize,
    /// Among the dead letters.
    pub dead: usize,
    /// Neither: lost, or still on their way.
    pub missing: Vec<(NodeName, u64)>,
    /// In the record and among the dead letters, which would say of what stands that it does not.
    pub both: Vec<(NodeName, u64)>,
}

impl Account {
    /// The missing ones by node and sequence.
    pub fn lost(&self) -> String {
        let mut by_node: BTreeMap<&NodeName, Vec<u64>> = BTreeMap::new();
        for (node, seq) in &self.missing {
            by_node.entry(node).or_default().push(*seq);
        }
        let mut words = String::new();
        for (node, seqs) in by_node.iter().take(20) {
            let _ = writeln!(words, "  {node}: {seqs:?}");
        }
        if by_node.len() > 20 {
            let _ = writeln!(words, "  … and of {} more nodes", by_node.len() - 20);
        }
        words
    }
}

impl Fleet {
    /// So many nodes that begin with `prefix`; nothing is sent yet.
    ///
    /// # Panics
    /// `prefix` begins no node name.
    pub fn new(prefix: &str, nodes: usize) -> Self {
        let random = Random::from_system();
        Self {
            nodes: (0..nodes).map(|number| format!("{prefix}{number:04}").parse().expect("a node name")).collect(),
            instances: (0..nodes).map(|_| random.uuid()).collect(),
            made: vec![0; nodes],
            confirmed: BTreeSet::new(),
            turn: 0,
            sizes: BTreeMap::new(),
            largest: 0,
            random,
        }
    }

    /// The nodes.
    pub fn nodes(&self) -> &[NodeName] {
        &self.nodes
    }

    /// The next result of a node, of about so many bytes.
    ///
    /// # Panics
    /// There is no such node.
    pub fn next(&mut self, index: usize, bytes: usize) -> Message {
        self.largest = self.largest.max(bytes + 300);
        self.made[index] += 1;
        let seq = self.made[index];
        self.sizes.insert((index, seq), bytes);
        let data = json!({ "node": self.nodes[index], "seq": seq, "fill": fill(index, seq, bytes) });
        let payload = Payload::Data(Data::parse(&data.to_string()).expect("an object"));
        let alias = format!("r{seq}").parse().expect("an alias");
        let mut result = CommandResult::bare(self.nodes[index].clone(), alias, payload).expect("a key");
        result.instance = Some(self.instances[index]);
        result.machine_id = Some(self.instances[index].simple().to_string());
        result.epoch = Some(1);
        result.seq = Some(seq);
        let mut message = json_message(result.encode());
        message.properties.message_id = Some(self.random.uuid().to_string());
        message.properties.kind = Some("result".into());
        message
    }

    /// Counts the last result of a node as confirmed, however it was published.
    pub fn note_confirmed(&mut self, index: usize) {
        self.confirmed.insert((index, self.made[index]));
    }

    /// Publishes a message as a result of that node, and counts its last result as confirmed when
    /// the broker has it.
    ///
    /// # Errors
    /// The broker has not got it, or has not said so.
    pub async fn publish(
        &mut self,
        session: &impl Session,
        index: usize,
        message: Message,
    ) -> Result<(), PublishError> {
        publish(session, &self.nodes[index], message).await?;
        self.note_confirmed(index);
        Ok(())
    }

    /// Sends so many results, node after node in turn. What is not confirmed is sent again, as a
    /// client does it, over as many sessions as it takes.
    ///
    /// # Panics
    /// The broker is away for a minute.
    pub async fn send(&mut self, site: &Site, count: usize, bytes: usize) {
        let mut session = site.session().await;
        let mut publishing = JoinSet::new();
        let mut again: Vec<(usize, u64, Message)> = Vec::new();
        let mut left = count;
        while left > 0 || !again.is_empty() || !publishing.is_empty() {
            if publishing.len() < WINDOW
                && let Some((index, seq, message)) = again.pop().or_else(|| self.following(&mut left, bytes))
            {
                let (session, node) = (session.clone(), self.nodes[index].clone());
                publishing.spawn(async move {
                    let published = publish(&session, &node, message.clone()).await;
                    (index, seq, message, published)
                });
                continue;
            }
            let Some(ended) = publishing.join_next().await else { continue };
            let (index, seq, message, published) = ended.expect("a publish does not panic");
            match published {
                Ok(()) => {
                    self.confirmed.insert((index, seq));
                }
                Err(_) => {
                    again.push((index, seq, message));
                    session = connected(site, session).await;
                }
            }
        }
        session.close().await;
    }

    fn following(&mut self, left: &mut usize, bytes: usize) -> Option<(usize, u64, Message)> {
        *left = left.checked_sub(1)?;
        let index = self.turn % self.nodes.len();
        self.turn += 1;
        let message = self.next(index, bytes);
        Some((index, self.made[index], message))
    }

    /// Where every confirmed result is now.
    ///
    /// # Errors
    /// The database or the broker does not answer.
    ///
    /// # Panics
    /// A record holds something else than what was sent.
    pub async fn account(&self, site: &Site) -> anyhow::Result<Account> {
        let mut account = Account { sent: self.confirmed.len(), ..Account::default() };
        for page in self.nodes.chunks(self.page()) {
            let keys = json!({ "keys": page });
            let path = format!("/{}/_all_docs?include_docs=true", site.database);
            let answer = site.services.couch(Method::POST, &path, Some(keys)).await?;
            let rows = answer["rows"].as_array().context("rows")?;
            for (node, row) in page.iter().zip(rows) {
                self.look(node, &row["doc"], &mut account);
            }
        }
        let dead = dead(site).await?;
        let confirmed = self.confirmed.iter().map(|(index, seq)| (self.nodes[*index].clone(), *seq));
        for result in confirmed.filter(|(node, seq)| dead.contains(&(node.to_string(), *seq))) {
            match account.missing.iter().position(|missing| *missing == result) {
                Some(place) => {
                    account.missing.remove(place);
                    account.dead += 1;
                }
                None => account.both.push(result),
            }
        }
        Ok(account)
    }

    /// How many records are read in one request, so that an answer has some 20 MB.
    fn page(&self) -> usize {
        let record = self.largest * self.confirmed.len().div_ceil(self.nodes.len().max(1));
        (20_000_000 / record.max(1)).clamp(1, 500)
    }

    fn look(&self, node: &NodeName, document: &Value, account: &mut Account) {
        let Some(index) = self.nodes.iter().position(|known| known == node) else { return };
        for (_, seq) in self.confirmed.range((index, 0)..(index + 1, 0)) {
            let key = format!("r{seq}");
            let (data, entry) = (&document[&key], &document["vogeler"]["results"][&key]);
            if data.is_null() && entry.is_null() {
                account.missing.push((node.clone(), *seq));
                continue;
            }
            let sent = self.sizes.get(&(index, *seq)).map(|bytes| fill(index, *seq, *bytes));
            let whole =
                data["node"] == node.as_str() && data["seq"] == *seq && data["fill"].as_str() == sent.as_deref();
            assert!(whole, "{key} of {node} is not what was sent: {data:.300}");
            assert_eq!(entry["seq"], *seq, "the entry of {key} of {node}: {entry}");
            assert_eq!(entry["instance"], self.instances[index].to_string(), "the entry of {key} of {node}: {entry}");
            account.stored += 1;
        }
    }

    /// Waits until every confirmed result is in its record or among the dead letters, as long as
    /// more of them arrive: when none has for the time that a state may take, those that are missing count as lost.
    ///
    /// # Panics
    /// Some are lost; says which, by node and sequence.
    pub async fn expect_all_kept(&self, site: &Site) -> Account {
        let sent = self.confirmed.len();
        let mut least = usize::MAX;
        let mut since = Instant::now();
        loop {
            // While some wait in the queue no record needs to be read, which would only be in the server's way.
            let waiting = site.waiting().await.unwrap_or(0);
            let late = since.elapsed() > deadline();
            let left = if waiting > 0 && !late {
                sent + waiting
            } else {
                match self.account(site).await {
                    Ok(account) if account.missing.is_empty() => {
                        assert!(account.both.is_empty(), "stored, and dead letters as well: {:?}", account.both);
                        return account;
                    }
                    Ok(account) => {
                        let (missing, lost) = (account.missing.len(), account.lost());
                        if late {
                            torture::report("a story that has failed", 1, &account);
                        }
                        assert!(!late, "{missing} of {sent} results are lost, by node and sequence:\n{lost}");
                        missing
                    }
                    Err(error) => {
                        assert!(!late, "what became of {sent} results cannot be told: {error:#}");
                        usize::MAX
                    }
                }
            };
            if left < least {
                (least, since) = (left, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What a result of that place is filled with, the same each time.
fn fill(index: usize, seq: u64, bytes: usize) -> String {
    noise(&Random::seeded(((index as u64) << 32) | seq), bytes)
}

/// Text that does not compress as padding does.
pub fn noise(random: &Random, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 32);
    while text.len() < bytes {
        text.push_str(&random.uuid().simple().to_string());
    }
    text.truncate(bytes);
    text
}

/// A message of JSON as clients send it, of nobody in particular.
pub fn json_message(body: impl Into<Vec<u8>>) -> Message {
    let properties = Properties { content_type: Some(message::JSON.into()), persistent: true, ..Properties::default() };
    Message { body: body.into(), properties }
}

/// Publishes it where the results of that node go, whatever is in it.
///
/// # Errors
/// The broker did not take it.
pub async fn publish(session: &impl Session, node: &NodeName, message: Message) -> Result<(), PublishError> {
    let (exchange, key) = (Topology::default().master, slot_key(node));
    session.publish(Publish { exchange: &exchange, routing_key: &key, mandatory: true, message }).await
}

/// A session that works: this one, or a new one.
async fn connected(site: &Site, session: AmqpSession) -> AmqpSession {
    let broker = site.broker();
    let mut kept = Some(session);
    eventually(async || {
        let candidate = match kept.take() {
            Some(session) => session,
            None => broker.connect().await?,
        };
        candidate.queue_status("master.in.0").await?;
        anyhow::Ok(candidate)
    })
    .await
}

/// Node and sequence of every dead letter that has both.
async fn dead(site: &Site) -> anyhow::Result<BTreeSet<(String, u64)>> {
    if site.queue("vogeler.dead").await?.messages == 0 {
        return Ok(BTreeSet::new());
    }
    let letters = site.dead_letters().await?;
    let read = |letter: &Value| {
        let body: Value = serde_json::from_str(letter["payload"].as_str()?).ok()?;
        Some((body["node"].as_str()?.to_owned(), body["seq"].as_u64()?))
    };
    Ok(letters.iter().filter_map(read).collect())
}
