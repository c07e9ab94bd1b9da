// Sends a Node program's http, https and fetch through the sandbox's proxy, where Node does not do so by itself.
'use strict';
const http = require('http');
const https = require('https');
const net = require('net');
const tls = require('tls');

const DISPATCHER = Symbol.for('undici.globalDispatcher.1');

// Since these versions Node reads the proxy variables itself when NODE_USE_ENV_PROXY asks it to.
function reads_variables() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  return major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
}

function use(proxy, direct) {
  if (reads_variables()) return;

  // A tunnel to where the options say; `then` gets an error or the socket.
  function tunnel({ hostname, host, port }, then) {
    const name = hostname || host || 'localhost';
    const place = `${net.isIPv6(name) ? `[${name}]` : name}:${port}`;
    const socket = net.connect(Number(proxy.port), proxy.hostname);
    let said = Buffer.alloc(0);
    const fail = (problem) => { socket.destroy(); then(problem); };
    const ended = () => fail(new Error('The proxy closed the connection.'));
    // Read piece by piece, not as flowing data: what follows the answer is for whoever gets the socket.
    const hear = () => {
      for (let part; (part = socket.read()) !== null;) said = Buffer.concat([said, part]);
      const end = said.indexOf('\r\n\r\n');
      if (end < 0) return;
      socket.off('readable', hear).off('error', fail).off('end', ended);
      const [first] = said.toString('latin1').split('\r\n');
      if (!/^HTTP\/1\.1 200 /.test(first)) return fail(new Error(first.replace('HTTP/1.1 ', '')));
      if (said.length > end + 4) socket.unshift(said.subarray(end + 4));
      then(null, socket);
    };
    socket.on('readable', hear).on('error', fail).on('end', ended);
    socket.write(`CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
  }

  function secured(options, then) {
    tunnel(options, (problem, socket) => {
      if (problem) return then(problem);
      const name = options.servername || options.hostname || options.host;
      const safe = tls.connect({ ...options, socket, servername: net.isIP(name) ? '' : name });
      safe.once('secureConnect', () => { safe.off('error', then); then(null, safe); }).once('error', then);
    });
  }

  const isDirect = (options) => options.socketPath || direct.includes(options.hostname || options.host);
  const through = (Agent, connect) => class extends Agent {
    createConnection(options, then) {
      return isDirect(options) ? super.createConnection(options, then) : connect(options, then);
    }
  };
  const kept = { keepAlive: true, scheduling: 'lifo', timeout: 5000 };
  http.globalAgent = new (through(http.Agent, tunnel))(kept);
  https.globalAgent = new (through(https.Agent, secured))(kept);

  const own = globalThis.fetch;
  globalThis.fetch = async function fetch(...request) {
    globalThis.fetch = own;
    // Only a first call makes Node load its client, which then says what sends its requests.
    await own('data:,');
    const { constructor: Agent } = globalThis[DISPATCHER];
    const connect = (options, then) => {
      const place = { ...options, port: options.port || (options.protocol === 'https:' ? 443 : 80) };
      if (isDirect(place)) {
        const way = options.protocol === 'https:' ? tls : net;
        const socket = way.connect({ host: place.hostname, port: place.port, servername: options.servername });
        const event = way === tls ? 'secureConnect' : 'connect';
        return socket.once(event, () => { socket.off('error', then); then(null, socket); }).once('error', then);
      }
      return options.protocol === 'https:' ? secured(place, then) : tunnel(place, then);
    };
    globalThis[DISPATCHER] = new Agent({ connect });
    return own(...request);
  };
}

module.exports = { use };
