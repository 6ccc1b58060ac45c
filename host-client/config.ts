import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { firstIssue, isUnknownField } from '../shared/config-issues.ts';
import { SnapgateError } from '../shared/errors.ts';
import { isRepositoryName, isTag } from '../shared/oci/reference.ts';
import { parseStrictJson } from '../shared/strict-json.ts';
import { parseWindow } from './line/window.ts';
import { COMPRESS } from './storage/storage.ts';
import { findStorageRoots } from './storage-conf.ts';

const MIB = 1024 * 1024;

const path = v.pipe(v.string(), v.startsWith('/', 'must be an absolute path'));
const count = (least: number, most = Number.MAX_SAFE_INTEGER) =>
  v.pipe(
    v.number('must be a number'),
    v.integer('must be a whole number'),
    v.minValue(least, `must be at least ${least}`),
    v.maxValue(most, `must be at most ${most}`),
  );
const gatewayUrl = v.pipe(
  v.string('must be a URL'),
  v.check((text) => isOrigin(text), 'must be http://HOST[:PORT] or https://HOST[:PORT]'),
);
const imageName = v.pipe(
  v.string(),
  v.regex(/^[a-zA-Z0-9.[\]:-]+\/[^:@]+$/, 'must be HOST/REPOSITORY'),
);

const limitsSchema = v.strictObject({
  /** Longest tar stream of one layer, in bytes. */
  layerBytes: v.optional(count(1), 64 * 1024 ** 3),
  /**
   * Base-2 logarithm of all windows that are unpacked at once; 26 costs 64 MiB of memory, which is
   * what the project's own format takes for its streams at most. A delta that
   * needs more is not used; a layer that needs more is refused.
   */
  windowLog: v.optional(count(10, 31), 26),
  /**
   * Memory that one encoder may take to pack a compressed file again, in bytes; below 32 MiB none
   * does. When absent, the largest of 32, 128, 256 and 1024 MiB that is at most a quarter of the
   * machine's memory.
   */
  encoderBytes: v.optional(count(0)),
});

const waitsSchema = v.strictObject({
  /** Until a gateway answers, connecting included. */
  answerSeconds: v.optional(count(1), 30),
  /** Longest pause inside a body. */
  stallSeconds: v.optional(count(1), 60),
  /** Until all metadata of a channel has come. */
  metadataSeconds: v.optional(count(1), 300),
  /** How long a delta that is not made yet is waited for before the whole image is taken. */
  deltaSeconds: v.optional(count(0), 900),
  /** How long Podman may keep its storage locked. */
  storageSeconds: v.optional(count(1), 600),
});

/** A machine that `snaphost install` laid out: what it boots from. */
const machineSchema = v.strictObject({
  /** UUID of the btrfs file system. */
  rootUuid: v.pipe(v.string(), v.uuid('must be a UUID')),
  /** Serial number of the boot partition. */
  bootUuid: v.pipe(v.string(), v.regex(/^[0-9A-F]{4}-[0-9A-F]{4}$/, 'must be XXXX-XXXX')),
  /** Where the boot partition is mounted. */
  bootFolder: v.optional(path, '/efi'),
  /** Whether `/` can be written to; `/etc` and `/var` always can. */
  writableRoot: v.optional(v.boolean(), false),
  /** Which boot loader counts the tries of a new version. */
  bootLoader: v.optional(v.picklist(['systemd-boot', 'grub']), 'systemd-boot'),
  /** How often a new version may try to boot. */
  tries: v.optional(count(1, 99), 3),
  /** Put at the end of the kernel command line. */
  kernelOptions: v.optional(v.array(v.pipe(v.string(), v.regex(/^[\x21-\x7e]+$/))), []),
});

const timeWindow = v.pipe(
  v.string(),
  v.check((text) => isWindow(text), 'must be like "22:00-06:00" or "mon-fri 01:00-05:30"'),
);

/** What the line to the gateways may be asked for. */
const lineSchema = v.strictObject({
  /** Most bytes a second, on average. */
  bytesPerSecond: v.optional(count(1024)),
  /** Most bytes of answers a day; what is left comes the next day. */
  bytesPerDay: v.optional(count(1)),
  /**
   * When a timer's update may download, when it may change the machine (always, when absent), and when
   * it may reboot it (never, when absent).
   */
  downloadWindow: v.optional(timeWindow),
  applyWindow: v.optional(timeWindow),
  rebootWindow: v.optional(timeWindow),
  /** Reboots of a fleet are spread over so many seconds; one machine always waits as long. */
  rebootSpreadSeconds: v.optional(count(0, 86_400), 0),
});

const healthSchema = v.strictObject({
  /** How long one check may take. */
  checkSeconds: v.optional(count(1), 120),
  /** How long a gateway may take to be reached after a boot; 0 does not ask. */
  gatewaySeconds: v.optional(count(0), 0),
});

const storageSchema = v.strictObject({
  /** How the content of new files is kept on the disk, where the machine can compress it. */
  compress: v.optional(v.picklist(COMPRESS, 'must be "zstd" or "none"'), 'zstd'),
});

/** What the gateway is told of updates. */
const reportsSchema = v.strictObject({
  /** Tell it after each attempt: versions, method, bytes, seconds and result. */
  send: v.optional(v.boolean(), false),
  /** With a digest of the machine's id, which tells machines apart. */
  machineId: v.optional(v.boolean(), true),
});

/** The form of the configuration file; the manual names each of its fields. */
export const configSchema = v.strictObject({
  /** The gateways, or plain registries, in the order in which they are tried. */
  gateways: v.pipe(v.array(gatewayUrl), v.minLength(1, 'must name a gateway'), v.maxLength(16)),
  /** The repository of the machine's images, such as `os/server`. */
  repository: v.pipe(v.string(), v.check(isRepositoryName, 'must be a repository name')),
  /** The tag that the machine follows: its channel. */
  tag: v.optional(v.pipe(v.string(), v.check(isTag, 'must be a tag')), 'latest'),
  /**
   * `HOST/REPOSITORY` as the policy names it and as Podman shows it; the first gateway's host and
   * the repository when absent.
   */
  name: v.optional(imageName),
  /** `os/architecture[/variant]`; this machine's own when absent. */
  platform: v.optional(v.string()),
  /** Who must have signed. Without this file everything is refused. */
  policy: v.optional(path),
  /** Docker or Podman auth file with the credentials for the gateways. */
  authFile: v.optional(path),
  /** PEM file of the certificate authorities that gateways' certificates must come from. */
  caFile: v.optional(path),
  /** Podman's storage; what storage.conf says when absent. */
  graphRoot: v.optional(path),
  runRoot: v.optional(v.pipe(path, v.maxLength(50, 'must have 50 characters at most'))),
  /** Downloads, records and the lock. */
  stateDir: v.optional(path),
  /** Bootable snapshots; on the file system of Podman's storage. In the state folder when absent. */
  deploymentsDir: v.optional(path),
  /** How many deployments `gc` keeps besides those that it must keep. */
  keep: v.optional(count(0), 1),
  /** A full pull below so many bytes is not worth making a delta for. */
  smallestDelta: v.optional(count(0), MIB),
  /**
   * How the machine boots; without it the default subvolume of btrfs is what is switched. Nothing counts
   * tries there: a version that fails its health checks is left, one that never gets as far is not.
   */
  machine: v.optional(machineSchema),
  line: v.optional(lineSchema, {}),
  health: v.optional(healthSchema, {}),
  reports: v.optional(reportsSchema, {}),
  storage: v.optional(storageSchema, {}),
  limits: v.optional(limitsSchema, {}),
  waits: v.optional(waitsSchema, {}),
});

type ConfigFile = v.InferOutput<typeof configSchema>;

/** What the machine is configured to do; all paths and names are filled in. */
export type Config = Omit<ConfigFile, 'gateways'> & {
  readonly gateways: readonly URL[];
  readonly name: string;
  readonly policy: string;
  readonly graphRoot: string;
  readonly runRoot: string;
  readonly stateDir: string;
  readonly deploymentsDir: string;
  /** Folder that stands for `/` of the machine. */
  readonly root: string;
};

/** What the command line says instead of the file; texts as they were given. */
export type ConfigOverrides = {
  /** The configuration file; then it must exist. */
  readonly config?: string | undefined;
  readonly root?: string | undefined;
  readonly gateways?: readonly string[] | undefined;
} & {
  readonly [Key in TextSetting]?: string | undefined;
};

export const TEXT_SETTINGS = [
  ...(['repository', 'tag', 'name', 'platform', 'policy', 'authFile', 'caFile'] as const),
  ...(['graphRoot', 'runRoot', 'stateDir', 'deploymentsDir'] as const),
] as const;
type TextSetting = (typeof TEXT_SETTINGS)[number];

/**
 * Reads the configuration: the file (`ROOT/etc/snaphost/config.json`, which may be missing when the
 * command line says all that is needed), what the command line says instead, and what follows from
 * the machine. Throws CONFIG_INVALID.
 */
export async function loadConfig(overrides: ConfigOverrides = {}): Promise<Config> {
  const root = overrides.root ?? '/';
  const file = overrides.config ?? join(root, 'etc/snaphost/config.json');
  const fromFile = await readConfigFile(file, overrides.config !== undefined);
  const merged: Record<string, unknown> = { ...fromFile };
  if (overrides.gateways !== undefined) merged.gateways = overrides.gateways;
  for (const key of TEXT_SETTINGS) {
    if (overrides[key] !== undefined) merged[key] = overrides[key];
  }
  const parsed = v.safeParse(configSchema, merged);
  if (parsed.success) return completeConfig(parsed.output, root);
  const issue = firstIssue(parsed.issues);
  const missing = issue.kind === 'schema' && issue.received === 'undefined';
  throw new SnapgateError(
    'CONFIG_INVALID',
    `${v.getDotPath(issue) ?? 'configuration'}: ${missing ? 'is missing' : problem(issue)}`,
    { where: file, hint: 'Correct the file, or say it on the command line; see --help.' },
  );
}

function problem(issue: v.BaseIssue<unknown>): string {
  return isUnknownField(issue) ? 'is no setting' : issue.message;
}

async function readConfigFile(file: string, required: boolean): Promise<object> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    if (isMissing && !required) return {};
    const message = isMissing ? 'there is no such file' : 'the file cannot be read';
    throw new SnapgateError('CONFIG_INVALID', message, { where: file, cause });
  }
  try {
    const json = parseStrictJson(text);
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json;
    throw new SyntaxError('not an object');
  } catch (cause) {
    throw new SnapgateError('CONFIG_INVALID', `not JSON: ${(cause as Error).message}`, {
      where: file,
      hint: 'Correct the file.',
      cause,
    });
  }
}

async function completeConfig(config: ConfigFile, root: string): Promise<Config> {
  const gateways = config.gateways.map((text) => new URL(text));
  const stateDir = config.stateDir ?? join(root, 'var/lib/snaphost');
  const known = config.graphRoot !== undefined && config.runRoot !== undefined;
  const storage = known ? undefined : await findStorageRoots(root);
  return {
    ...config,
    root,
    gateways,
    name: config.name ?? `${gateways[0]?.host}/${config.repository}`,
    policy: config.policy ?? join(root, 'etc/snaphost/policy.json'),
    graphRoot: config.graphRoot ?? storage?.graphRoot ?? '',
    runRoot: config.runRoot ?? storage?.runRoot ?? '',
    stateDir,
    deploymentsDir: config.deploymentsDir ?? join(stateDir, 'deployments'),
  };
}

function isWindow(text: string): boolean {
  try {
    return parseWindow(text).spans.length > 0;
  } catch {
    return false;
  }
}

function isOrigin(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || !['http:', 'https:'].includes(url.protocol)) return false;
  return `${url.origin}/` === url.href;
}
