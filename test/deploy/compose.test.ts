import { readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join, matchesGlob } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { parseConfig } from '../../gateway/cli/config.ts';
import { freePort } from '../support/free-port.ts';
import { runProgramFile } from '../support/run-program.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const CONFIG = '/etc/snapgate/snapgate.yaml';

/** What the Compose Specification takes for the fields that the file uses, and nothing else. */
const serviceSchema = v.strictObject({
  image: v.optional(v.string()),
  build: v.optional(v.strictObject({ context: v.string(), dockerfile: v.string() })),
  restart: v.literal('unless-stopped'),
  environment: v.optional(v.record(v.string(), v.string())),
  depends_on: v.optional(v.array(v.string())),
  ports: v.optional(v.array(v.string())),
  volumes: v.array(v.string()),
  read_only: v.optional(v.boolean()),
  tmpfs: v.optional(v.array(v.string())),
  cap_drop: v.optional(v.array(v.string())),
  security_opt: v.optional(v.array(v.string())),
  mem_limit: v.optional(v.string()),
  stop_grace_period: v.optional(v.string()),
  healthcheck: v.optional(
    v.strictObject({ test: v.string(), interval: v.string(), timeout: v.string() }),
  ),
});
const composeSchema = v.strictObject({
  services: v.strictObject({ registry: serviceSchema, gateway: serviceSchema }),
  volumes: v.record(v.string(), v.null()),
});

const compose = v.parse(composeSchema, parse(read('deploy/compose.yaml')));
const { gateway, registry } = compose.services;
const config = parseConfig(read('deploy/compose.snapgate.yaml'), CONFIG);
const container = read('deploy/Containerfile').replaceAll('\\\n', ' ');
const instruction = (name: string) =>
  [...container.matchAll(new RegExp(`^${name} (.*)$`, 'gm'))].map(([, rest = '']) => rest);

/** The health check against a server of this test in place of the gateway. */
function checkHealth(port: number) {
  const command = (gateway.healthcheck?.test ?? '').replace(':8080/', `:${port}/`);
  expect(command).toContain(`:${port}/readyz`);
  const PATH = `${dirname(process.execPath)}:${process.env.PATH}`;
  return runProgramFile('sh', ['-c', command], { env: { PATH } });
}

describe('the compose file', () => {
  it('leads from the published port to the gateway and on to the registry', () => {
    const port = config.listen.port;
    expect(gateway.ports).toEqual([`127.0.0.1:${port}:${port}`]);
    expect(config.publicUrl?.host).toBe(`127.0.0.1:${port}`);
    expect(instruction('EXPOSE')).toEqual([`${port}`]);
    expect(config.upstream.url.origin).toBe('http://registry:5000');
    expect(gateway.depends_on).toEqual(['registry']);
    expect(registry.ports).toBeUndefined();
  });

  it('keeps what both write in volumes, and shows the gateway its configuration', () => {
    const mounted = (service: typeof gateway) =>
      new Map(service.volumes.map((text) => text.split(':', 2).reverse() as [string, string]));
    expect(Object.keys(compose.volumes).sort()).toEqual(['gateway', 'registry']);
    expect(mounted(registry).get('/var/lib/registry')).toBe('registry');
    expect(mounted(gateway).get(config.data)).toBe('gateway');
    expect(instruction('VOLUME')).toEqual([config.data]);
    expect(mounted(gateway).get(CONFIG)).toBe('./compose.snapgate.yaml');
    expect(JSON.parse(instruction('CMD')[0] ?? '')).toEqual(['serve', '--config', CONFIG]);
  });

  it('gives the memory that one delta may take, and the time that a stop may take', () => {
    const limit = Number(gateway.mem_limit?.replace(/m$/, '')) * 1024 * 1024;
    expect(limit).toBeGreaterThan(config.deltas.memoryBytes * config.deltas.concurrency);
    const grace = Number(gateway.stop_grace_period?.replace(/s$/, ''));
    expect(grace).toBeGreaterThan(config.stopTimeoutSeconds);
  });

  it('calls the gateway healthy when it is ready, and only then', async (ctx) => {
    let status = 200;
    const asked: unknown[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url);
      response.writeHead(status).end('{}');
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    ctx.onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    expect(await checkHealth(port)).toMatchObject({ status: 0, stderr: '' });
    status = 503;
    expect(await checkHealth(port)).toMatchObject({ status: 1 });
    expect(asked).toEqual(['/readyz', '/readyz']);
    expect(await checkHealth(await freePort())).toMatchObject({ status: 1 });
  });

  it('says how to make the key that its configuration can sign with', async (ctx) => {
    const folder = await temporaryFolder(ctx);
    const comment = read('deploy/compose.yaml').replace(/^# {0,3}/gm, '');
    const [, command = ''] = comment.match(/exec gateway sh -c '([^']*)'/) ?? [];
    const here = command.replace(config.data, folder).replace('/opt/snapgate/', root);
    const PATH = `${dirname(process.execPath)}:${process.env.PATH}`;
    const ended = await runProgramFile('sh', ['-c', here], { env: { PATH } });
    expect(ended.stdout).toContain('BEGIN PUBLIC KEY');
    const signs = read('deploy/compose.snapgate.yaml').replace(/^# (signing:| {2})/gm, '$1');
    const { signing } = parseConfig(signs, CONFIG);
    expect(signing).toMatchObject([{ repository: '*', on: 'push', images: true, deltas: true }]);
    const rule = signing[0] as { key?: string; passwordFile?: string };
    for (const path of [rule.key, rule.passwordFile]) {
      const mode = statSync(join(folder, `${path}`.slice(config.data.length))).mode;
      expect(mode & 0o777).toBe(0o600);
    }
  });
});

describe('the container file', () => {
  it('copies what is there, and what the list of the ignored lets through', () => {
    const patterns = read('.dockerignore').split('\n').filter(Boolean);
    expect(patterns[0]).toBe('*');
    const copied = instruction('COPY')
      .filter((rest) => !rest.startsWith('--from='))
      .flatMap((rest) => rest.split(' ').slice(0, -1));
    expect(copied).toContain('gateway');
    for (const path of copied) {
      expect(statSync(join(root, path)), path).toBeDefined();
      expect(
        patterns.some((pattern) => matchesGlob(path, pattern.slice(1))),
        path,
      ).toBe(true);
    }
  });

  it('starts the program as a user of its own', () => {
    const [node, program] = JSON.parse(instruction('ENTRYPOINT')[0] ?? '') as string[];
    expect(node).toBe('node');
    expect(statSync(join(root, `${program}`.replace('/opt/snapgate/', ''))).isFile()).toBe(true);
    expect(instruction('USER')).toEqual(['65532:65532']);
    expect(instruction('ARG')).toEqual(['BASE=node:24-slim']);
  });
});
