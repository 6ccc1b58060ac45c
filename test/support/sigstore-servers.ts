import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './free-port.ts';
import { goPeer, SIGSTORE_SERVERS } from './go-peer.ts';
import { startIssuer, type TestIssuer } from './oidc-issuer.ts';

/** Sigstore's own servers on loopback, and an issuer that vouches for their users. */
export type SigstoreServers = {
  readonly fulcio: URL;
  readonly rekor: URL;
  readonly timestamps: URL;
  readonly issuer: TestIssuer;
  /** Content of a `trusted_root.json` that believes them. */
  readonly trustedRoot: object;
  close(): Promise<void>;
};

const LOG_NAME = 'log.test';
const VALID = { start: '2020-01-01T00:00:00Z' };
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');

/** Starts them, built when they are not there; or says why they cannot be had. */
export async function startSigstoreServers(): Promise<SigstoreServers | { missing: string }> {
  const paths: Record<string, string> = {};
  for (const [name, peer] of Object.entries(SIGSTORE_SERVERS)) {
    const found = await goPeer(peer);
    if ('missing' in found) return found;
    paths[name] = found.path;
  }
  const { fulcio = '', rekor = '', timestamps = '' } = paths;
  return start({ fulcio, rekor, timestamps });
}

type Programs = Record<keyof typeof SIGSTORE_SERVERS, string>;

async function start(programs: Programs): Promise<SigstoreServers> {
  const dir = await mkdtemp(join(tmpdir(), 'snapgate-sigstore-'));
  const issuer = await startIssuer();
  const children: ChildProcess[] = [];
  const close = async () => {
    for (const child of children) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      if (child.exitCode === null && child.kill('SIGKILL')) await ended;
    }
    await issuer.close();
    await rm(dir, { recursive: true, force: true });
  };
  const run = async (program: string, args: string[], port: number, probe: string) => {
    const child = spawn(program, args, { stdio: 'ignore', env: { HOME: dir, PATH: '/usr/bin' } });
    children.push(child);
    const url = new URL(`http://127.0.0.1:${port}`);
    await answers(child, new URL(probe, url));
    return url;
  };
  try {
    const log = generateKeyPairSync('ed25519');
    const fulcio = await startFulcio(run, programs.fulcio, dir, issuer.url);
    const rekor = await startRekor(run, programs.rekor, dir, log.privateKey);
    const timestamps = await startTimestamps(run, programs.timestamps);
    const trustedRoot = await trustOf(fulcio, timestamps, log.publicKey);
    return { fulcio, rekor, timestamps, issuer, trustedRoot, close };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

type Run = (program: string, args: string[], port: number, probe: string) => Promise<URL>;

/** Without a log of certificates: none can be built from what it takes. */
async function startFulcio(run: Run, program: string, dir: string, issuer: string) {
  const config = join(dir, 'fulcio.json');
  const known = { IssuerURL: issuer, ClientID: 'sigstore', Type: 'email' };
  await writeFile(config, JSON.stringify({ OIDCIssuers: { [issuer]: known } }));
  const [port, grpc, metrics] = [await freePort(), await freePort(), await freePort()];
  const args = [
    ...['serve', '--ca', 'ephemeralca', '--ct-log-url', '', '--config-path', config],
    ...['--host', '127.0.0.1', '--port', `${port}`, '--metrics-port', `${metrics}`],
    ...['--grpc-host', '127.0.0.1', '--grpc-port', `${grpc}`],
    ...['--legacy-unix-domain-socket', join(dir, 'fulcio.sock')],
  ];
  return run(program, args, port, '/api/v2/trustBundle');
}

async function startRekor(run: Run, program: string, dir: string, key: KeyObject) {
  const file = join(dir, 'rekor.pem');
  await writeFile(file, key.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  const storage = join(dir, 'log');
  await mkdir(storage);
  const [port, grpc, metrics] = [await freePort(), await freePort(), await freePort()];
  const args = [
    ...['serve', '--hostname', LOG_NAME, '--storage-dir', storage, '--signer-filepath', file],
    ...['--http-port', `${port}`, '--grpc-port', `${grpc}`, '--http-metrics-port', `${metrics}`],
    ...['--checkpoint-interval', '1s'],
  ];
  return run(program, args, port, '/healthz');
}

async function startTimestamps(run: Run, program: string) {
  const port = await freePort();
  const args = [
    ...['serve', '--host', '127.0.0.1', '--port', `${port}`, '--disable-ntp-monitoring'],
    ...['--timestamp-signer', 'memory'],
  ];
  return run(program, args, port, '/ping');
}

async function trustOf(fulcio: URL, timestamps: URL, logKey: KeyObject): Promise<object> {
  const { chains } = (await (await fetch(new URL('/api/v2/trustBundle', fulcio))).json()) as {
    chains: { certificates: string[] }[];
  };
  const chain = await (await fetch(new URL('/api/v1/timestamp/certchain', timestamps))).text();
  const authority = (url: URL, pems: readonly string[]) => ({
    subject: { organization: 'test', commonName: 'test' },
    ...{ uri: url.href, validFor: VALID, certChain: { certificates: pems.map(rawOf) } },
  });
  const key = logKey.export({ type: 'spki', format: 'der' });
  return {
    mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
    tlogs: [
      {
        ...{ baseUrl: `https://${LOG_NAME}`, hashAlgorithm: 'SHA2_256' },
        publicKey: { rawBytes: base64(key), keyDetails: 'PKIX_ED25519', validFor: VALID },
        logId: { keyId: base64(noteKeyId(key)) },
      },
    ],
    ctlogs: [],
    certificateAuthorities: chains.map(({ certificates }) => authority(fulcio, certificates)),
    timestampAuthorities: [authority(timestamps, pemsOf(chain))],
  };
}

/** The key's id in a signed note (C2SP "signed-note"); 1 stands for Ed25519. */
function noteKeyId(spki: Uint8Array): Buffer {
  const raw = spki.subarray(-32);
  return createHash('sha256').update(`${LOG_NAME}\n`).update(Buffer.of(1)).update(raw).digest();
}

const rawOf = (pem: string) => ({ rawBytes: pem.replace(/-----[^-]+-----|\s/g, '') });
const pemsOf = (text: string) =>
  text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];

async function answers(child: ChildProcess, url: URL): Promise<void> {
  for (let attempt = 0; attempt < 600; attempt += 1) {
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended`);
    const answer = await fetch(url).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.ok) return;
    await sleep(50);
  }
  throw new Error(`${child.spawnfile} does not answer`);
}
