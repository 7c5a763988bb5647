// What a Node.js program does with the stock client, from creating a topic to closing a subscriber.
// Prints one JSON object; test_node_client.py says what it must hold. Arguments: the number of messages.
'use strict';

const {PubSub} = require('@google-cloud/pubsub');

const COUNT = Number(process.argv[2]);

async function createAll(pubsub) {
  const [topic] = await pubsub.createTopic('births');
  const [plain] = await topic.createSubscription('plain');
  const [ordered] = await topic.createSubscription('ordered', {enableMessageOrdering: true});
  const [once] = await topic.createSubscription('once', {enableExactlyOnceDelivery: true});
  const [filtered] = await topic.createSubscription('filtered', {filter: 'attributes.parity = "odd"'});
  return {topic, plain, ordered, once, filtered};
}

async function publishAll(pubsub) {
  const topic = pubsub.topic('births', {messageOrdering: true});
  const ids = [];
  for (let number = 0; number < COUNT; number++) {
    ids.push(
      topic.publishMessage({
        data: Buffer.from(String(number)),
        attributes: {parity: number % 2 ? 'odd' : 'even'},
        orderingKey: `k${number % 3}`,
      })
    );
  }
  return Promise.all(ids);
}

// Resolves with what arrived once `expected` messages have been acked; `answer` acks one message.
function receive(subscription, expected, answer) {
  return new Promise((resolve, reject) => {
    const got = [];
    let acked = 0;
    subscription.on('error', reject);
    subscription.on('message', async message => {
      got.push({key: message.orderingKey, number: Number(message.data)});
      try {
        await answer(message);
      } catch (error) {
        reject(error);
      }
      if (++acked === expected) {
        await subscription.close();
        resolve(got);
      }
    });
  });
}

async function main() {
  const pubsub = new PubSub();
  const {plain, ordered, once, filtered} = await createAll(pubsub);
  const ids = await publishAll(pubsub);
  const ack = async message => message.ack();
  const refused = new Set();
  // Node's client hands out messages while it is asked to close; the first message of the stream is given back once.
  const nackOnce = async message => {
    if (!refused.size) {
      refused.add(message.id);
      message.nack();
    } else {
      message.ack();
    }
  };
  const result = {
    ids: new Set(ids).size,
    plain: await receive(plain, COUNT, ack),
    ordered: await receive(ordered, COUNT, ack),
    once: await receive(once, COUNT, message => message.ackWithResponse()),
    filtered: await receive(filtered, Math.floor(COUNT / 2) + 1, nackOnce),
  };
  const missing = await pubsub
    .topic('nowhere')
    .publishMessage({data: Buffer.from('x')})
    .then(() => 0, error => error.code);
  await pubsub.close();
  console.log(JSON.stringify({...result, missing}));
}

main().catch(error => {
  console.error(error);
  process.exitCode = 1;
});
