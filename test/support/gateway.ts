import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('../../gateway/main.ts', import.meta.url));

export type TestGateway = {
  /** `127.0.0.1:PORT`, speaking plain HTTP. */
  readonly host: string;
  readonly url: string;
  /** Process id. */
  readonly pid: number;
  /** Folder of its configuration and data. */
  readonly dir: string;
  /** Lines of its log so far, parsed. */
  readonly log: Record<string, unknown>[];
  /** Stops it as a service manager would; resolves to its exit status. */
  stop(): Promise<number | null>;
};

/**
 * Runs `snapgate serve` as a process of its own in front of a registry. `config` adds to or replaces
 * fields of its configuration.
 */
export async function startGatewayProcess(
  upstreamUrl: string,
  config: Readonly<Record<string, unknown>> = {},
): Promise<TestGateway> {
  const dir = await mkdtemp(join(tmpdir(), 'snapgate-serve-'));
  const path = join(dir, 'snapgate.yaml');
  const defaults = { listen: { port: 0 }, upstream: { url: upstreamUrl }, data: 'data' };
  // JSON is YAML.
  await writeFile(path, JSON.stringify({ ...defaults, ...config }));
  const child = spawn(process.execPath, [PROGRAM, 'serve', '--config', path], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const clean = () => {
    child.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  };
  process.once('exit', clean);
  const exited = once(child, 'exit');
  const log: TestGateway['log'] = [];
  const stop = async () => {
    child.kill('SIGTERM');
    const [status] = await exited;
    process.off('exit', clean);
    await rm(dir, { recursive: true, force: true });
    return status as number | null;
  };
  const url = await listeningUrl(child.stderr, log).catch(async (thrown) => {
    await stop();
    throw thrown;
  });
  return { host: new URL(url).host, url, pid: child.pid ?? 0, dir, log, stop };
}

/** Reads the log for ever, and gives the address as soon as it names it. */
function listeningUrl(
  stderr: NodeJS.ReadableStream,
  log: Record<string, unknown>[],
): Promise<string> {
  return new Promise((resolve, reject) => {
    const lines = createInterface({ input: stderr });
    lines.on('line', (line) => {
      const entry = parseLine(line);
      log.push(entry);
      if (entry.message === 'listening') resolve(String(entry.url));
    });
    lines.on('close', () => reject(new Error(`the gateway ended: ${JSON.stringify(log.at(-2))}`)));
  });
}

function parseLine(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line);
  } catch {
    return { line };
  }
}
