import { dirname, resolve } from 'node:path';
import * as v from 'valibot';
import { parse, YAMLParseError } from 'yaml';
import { firstIssue, isUnknownField } from '../../shared/config-issues.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { LOG_LEVELS } from '../../shared/log.ts';
import { DEFAULT_EFFORT, MAX_EFFORT } from '../delta/effort.ts';
import { accessSchema } from './access-config.ts';
import { count, filePath, origin, pattern } from './config-fields.ts';
import { readText } from './read-text.ts';
import { keyAt, onlineKeySchema, signingSchema, withSigningPaths } from './signing-config.ts';

const listenSchema = v.strictObject({
  address: v.optional(v.string(), '127.0.0.1'),
  /** 0 takes any free port. */
  port: v.optional(count(0, 65535), 8080),
  tls: v.optional(
    v.strictObject({
      certificate: filePath,
      key: filePath,
      /** Certificates of the authorities whose clients are known, as PEM. */
      clientCa: v.optional(filePath),
      /** `optional` serves those without one as well, for access rules to tell them apart. */
      clientCertificates: v.optional(v.picklist(['required', 'optional']), 'required'),
    }),
  ),
  /** How much one client address may ask. */
  clientLimit: v.optional(
    v.strictObject({
      requestsPerSecond: v.pipe(v.number(), v.minValue(0.01)),
      burst: v.optional(count(1, 1_000_000), 100),
    }),
  ),
});
const credentialsSchema = v.union(
  [
    v.strictObject({ authFile: filePath }),
    v.strictObject({ username: v.string(), passwordFile: filePath }),
  ],
  'must have either authFile, or username and passwordFile',
);
const upstreamSchema = v.strictObject({
  url: origin,
  /** Certificates to trust besides the system's, as PEM. */
  ca: v.optional(filePath),
  /** Accept any certificate. */
  insecure: v.optional(v.boolean(), false),
  /** What the gateway's own requests are made with; clients bring their own. */
  credentials: v.optional(credentialsSchema),
  connectTimeoutSeconds: v.optional(count(1, 600), 10),
  answerTimeoutSeconds: v.optional(count(1, 3600), 300),
  stallTimeoutSeconds: v.optional(count(1, 3600), 60),
});
const deltasSchema = v.strictObject({
  /** Repositories for whose images deltas are made when they are asked for. */
  repositories: v.optional(v.array(pattern), ['*']),
  /** Deltas made at once, each in a thread of its own. */
  concurrency: v.optional(count(1, 64), 1),
  /** Deltas that may wait. */
  queue: v.optional(count(0, 10_000), 32),
  /** Memory for making one delta, in bytes: entries of both images, searches, coders and encoders. */
  memoryBytes: v.optional(count(64 * 2 ** 20, 2 ** 40), 2 ** 30),
  /** Time spent on a delta for fewer bytes, as `delta create --effort`. */
  effort: v.optional(count(1, MAX_EFFORT), DEFAULT_EFFORT),
});
const tufSchema = v.pipe(
  v.strictObject({
    /** A TUF repository that `snapgate tuf init` made. */
    folder: filePath,
    /** `REPOSITORY:TAG` in the registry, to which `snapgate tuf publish --to` writes. */
    from: v.optional(
      v.pipe(
        v.string(),
        v.regex(/^[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9_][A-Za-z0-9._-]*$/, 'must be REPOSITORY:TAG'),
      ),
    ),
    /** The online keys. Without them what is in the folder is served as it is. */
    snapshot: v.optional(onlineKeySchema),
    timestamp: v.optional(onlineKeySchema),
    /** How long what they sign holds; it is signed anew when half of that is over. */
    snapshotHours: v.optional(count(1, 100_000), 168),
    timestampHours: v.optional(count(1, 100_000), 24),
  }),
  v.check(
    ({ snapshot, timestamp }) => (snapshot === undefined) === (timestamp === undefined),
    'must have both snapshot and timestamp, or neither',
  ),
);
const gateSchema = v.strictObject({
  /** `audit` serves everything and counts what `enforce` would refuse. */
  mode: v.optional(v.picklist(['enforce', 'audit']), 'enforce'),
  /** The policy file that images and deltas must pass. */
  policy: filePath,
  /** Judge what is pushed as well. */
  pushes: v.optional(v.boolean(), false),
});
const configSchema = v.strictObject({
  listen: v.optional(listenSchema, {}),
  /** The gateway's origin as clients write it; signatures carry its host. */
  publicUrl: v.optional(origin),
  upstream: upstreamSchema,
  /** Who may use the gateway; absent, the registry alone says who may what. */
  access: v.optional(accessSchema),
  /** Folder of the catalogue and of work in progress. */
  data: filePath,
  deltas: v.optional(deltasSchema, {}),
  signing: v.optional(v.array(signingSchema), []),
  gate: v.optional(gateSchema),
  tuf: v.optional(tufSchema),
  log: v.optional(v.strictObject({ level: v.optional(v.picklist(LOG_LEVELS), 'info') }), {}),
  /** How long a stop waits for requests under way. */
  stopTimeoutSeconds: v.optional(count(0, 3600), 20),
});

/** The configuration of `snapgate serve`; its fields are documented in deploy/snapgate.yaml. */
export type GatewayConfig = v.InferOutput<typeof configSchema>;
/** Reads a configuration file. Paths in it are relative to its folder. Throws CONFIG_INVALID. */
export async function loadConfig(path: string): Promise<GatewayConfig> {
  const hint = 'Correct --config or the permissions of the file.';
  const text = await readText(path, 'the configuration file', hint);
  return parseConfig(text, path);
}

/** Parses the text of a configuration file. Throws CONFIG_INVALID with the field concerned. */
export function parseConfig(text: string, path: string): GatewayConfig {
  const refuse = (message: string, cause?: unknown) =>
    new SnapgateError('CONFIG_INVALID', message, {
      where: path,
      hint: 'Correct the file; deploy/snapgate.yaml shows every field.',
      cause,
    });
  let document: unknown;
  try {
    document = parse(text, { maxAliasCount: 0, strict: true, uniqueKeys: true });
  } catch (thrown) {
    const line = thrown instanceof YAMLParseError ? thrown.linePos?.[0].line : undefined;
    const reason = (thrown as Error).message.split('\n')[0] ?? '';
    throw refuse(`not YAML${line === undefined ? '' : ` in line ${line}`}: ${reason}`, thrown);
  }
  const parsed = v.safeParse(configSchema, document ?? {});
  if (parsed.success) return withPaths(parsed.output, dirname(resolve(path)));
  const issue = firstIssue(parsed.issues);
  const field = v.getDotPath(issue) ?? '(whole file)';
  throw refuse(`${field}: ${explain(issue)}`);
}

function explain(issue: v.BaseIssue<unknown>): string {
  if (isUnknownField(issue)) return 'no such field';
  if (issue.type === 'strict_object' && issue.received === 'undefined') return 'is missing';
  return issue.message;
}

function withPaths(config: GatewayConfig, folder: string): GatewayConfig {
  const at = (path: string) => resolve(folder, path);
  const { listen, upstream, signing, gate, access, tuf } = config;
  const { credentials, ca } = upstream;
  return {
    ...config,
    data: at(config.data),
    access: access && {
      ...access,
      ...(access.htpasswd === undefined ? {} : { htpasswd: at(access.htpasswd) }),
      oidc: access.oidc.map(({ ca, ...one }) => (ca === undefined ? one : { ...one, ca: at(ca) })),
    },
    gate: gate && { ...gate, policy: at(gate.policy) },
    listen: {
      ...listen,
      ...(listen.tls && {
        tls: {
          ...listen.tls,
          ...{ certificate: at(listen.tls.certificate), key: at(listen.tls.key) },
          ...(listen.tls.clientCa === undefined ? {} : { clientCa: at(listen.tls.clientCa) }),
        },
      }),
    },
    upstream: {
      ...upstream,
      ...(ca === undefined ? {} : { ca: at(ca) }),
      ...(credentials && {
        credentials:
          'authFile' in credentials
            ? { authFile: at(credentials.authFile) }
            : { ...credentials, passwordFile: at(credentials.passwordFile) },
      }),
    },
    signing: signing.map((rule) => withSigningPaths(rule, at)),
    tuf: tuf && {
      ...tuf,
      folder: at(tuf.folder),
      ...(tuf.snapshot && { snapshot: keyAt(tuf.snapshot, at) }),
      ...(tuf.timestamp && { timestamp: keyAt(tuf.timestamp, at) }),
    },
  };
}
