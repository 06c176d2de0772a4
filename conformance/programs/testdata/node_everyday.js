// What programs do with node-zookeeper-client every day. Prints what a reader would
// expect of any server. Arguments: the connection string.
const zk = require('node-zookeeper-client');
const {CreateMode, ACL, Id, Permission, Exception} = zk;

const call = (client, name, ...args) => new Promise((resolve, reject) =>
  client[name](...args, (error, ...results) => error ? reject(error) : resolve(results)));

async function attempt(title, promise, show = (r) => r) {
  try {
    console.log(title, JSON.stringify(show(await promise)));
  } catch (e) {
    console.log(title, e.name);
  }
}

function connect() {
  const client = zk.createClient(process.argv[2], {sessionTimeout: 10000});
  return new Promise((resolve) => {
    client.once('connected', () => resolve(client));
    client.connect();
  });
}

async function main() {
  const one = await connect();
  const two = await connect();
  const version = (r) => r[0].version;
  await attempt('create', call(one, 'create', '/node', Buffer.from('a')));
  await attempt('again', call(one, 'create', '/node', Buffer.from('a')));
  await attempt('sequence', call(one, 'create', '/node/s-', null, CreateMode.EPHEMERAL_SEQUENTIAL));
  await attempt('mkdirp', call(one, 'mkdirp', '/node/deep/path'));
  let event; // of a change behind the watch, which is on a connection of its own
  await new Promise((watching) => {
    event = new Promise((resolve) => two.getData('/node', resolve, watching));
  });
  await attempt('set', call(one, 'setData', '/node', Buffer.from('b'), 0), version);
  console.log('event', (await event).toString().replace(/\[\d+\]/, ''));
  await attempt('stale', call(one, 'setData', '/node', Buffer.from('b'), 0), version);
  await attempt('get', call(two, 'getData', '/node'), (r) => [r[0].toString(), r[1].version, r[1].numChildren]);
  await attempt('children', call(two, 'getChildren', '/node'), (r) => r[0].sort());
  await attempt('acl', call(one, 'setACL', '/node/deep', [new ACL(Permission.READ, Id.ANYONE_ID_UNSAFE)], -1), (r) => r[0].aversion);
  await attempt('denied', call(two, 'create', '/node/deep/x', null));
  const tx = one.transaction().create('/node/tx').check('/node/tx', 0).setData('/node/tx', Buffer.from('x'), 0).remove('/node/tx', 1);
  await attempt('transaction', call(tx, 'commit'), (r) => r[0].length);
  const bad = one.transaction().create('/node/tx').remove('/node/none', -1);
  await attempt('transaction', call(bad, 'commit'), (r) => r[0].length);
  await attempt('not empty', call(one, 'remove', '/node', -1));
  let gone;
  await new Promise((watching) => {
    gone = new Promise((resolve) => two.exists('/node/s-0000000000', resolve, watching));
  });
  one.close(); // not before two watches, on a connection of its own
  console.log('event', (await gone).toString().replace(/\[\d+\]/, ''));
  two.close();
  setTimeout(() => process.exit(0), 200);
}

main().catch((e) => {
  console.error(e);
  process.exit(1);
});
