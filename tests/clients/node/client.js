// Node's etcd3 as one of the clients that tests/clients runs: it says its lines of the conversation.
'use strict';

const { Etcd3 } = require('etcd3');

const LEASE_TTL_SECONDS = 3;

async function main() {
  const client = new Etcd3({ hosts: process.argv[2] });

  await client.put('c/key').value('one');
  console.log('put');
  console.log(`get ${await client.get('c/key').string()}`);

  for (let n = 0; n < 2; n += 1) {
    const answer = await client
      .if('c/key', 'Value', '==', 'one')
      .then(client.put('c/key').value('two'))
      .else(client.get('c/key'))
      .commit();
    const kv = answer.succeeded ? undefined : answer.responses[0].response_range.kvs[0];
    console.log(kv === undefined ? 'txn then' : `txn else ${kv.value}`);
  }

  const lease = client.lease(LEASE_TTL_SECONDS);
  await lease.put('c/leased').value('');
  lease.on('keepaliveSucceeded', () => console.log('renewed'));
  lease.on('lost', fail);
  console.log('lease');

  await watch(client);
  await lease.revoke();
  console.log('done');
  client.close();
}

// Prints events until the key is deleted; etcd3 itself resumes after an outage.
async function watch(client) {
  const watcher = await client.watch().key('c/watched').create();
  const deleted = new Promise((resolve, reject) => {
    watcher.on('put', (kv) => console.log(`event put ${kv.value}`));
    watcher.on('delete', () => {
      console.log('event delete');
      resolve();
    });
    watcher.on('error', reject);
  });
  console.log('watching');
  await deleted;
  await watcher.cancel();
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

main().catch(fail);
