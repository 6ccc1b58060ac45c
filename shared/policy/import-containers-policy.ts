import * as v from 'valibot';
import { SnapgateError } from '../errors.ts';
import { parsePublicKey } from '../signing/public-key.ts';
import { parseStrictJson } from '../strict-json.ts';
import { isRepositoryPattern } from './repository-pattern.ts';

// The format is containers-policy.json(5): per scope a list of requirements that must all be met; a
// scope covers the name itself and everything beneath it, and the longest one that covers holds.

const MAX_FILE = 1024 * 1024;

const paths = v.pipe(v.array(v.string()), v.maxLength(64));
const entrySchema = v.looseObject({
  type: v.string(),
  keyPath: v.optional(v.string()),
  keyPaths: v.optional(paths),
  keyData: v.optional(v.string()),
  keyDatas: v.optional(paths),
});
const entriesSchema = v.pipe(v.array(entrySchema), v.maxLength(64));
const fileSchema = v.looseObject({
  default: entriesSchema,
  transports: v.optional(v.record(v.string(), v.record(v.string(), entriesSchema)), {}),
});
type Entry = v.InferOutput<typeof entrySchema>;

/** What a conversion came to, and what could not be said in the other format. */
export type Converted<File> = { readonly policy: File; readonly notes: readonly string[] };

/** One of our policy files as it is written. */
export type PolicyFile = {
  readonly version: 1;
  readonly keys: Record<string, { readonly pem: string }>;
  readonly rules: readonly object[];
};

/**
 * Turns the entries of a containers policy for registries into a policy of ours. Only
 * `sigstoreSigned` by key can be said here; what cannot is left out, so that it is refused, and
 * noted. `readKey` reads a key file. Throws CONFIG_INVALID,
 * KEY_INVALID and what `readKey` throws.
 */
export async function importContainersPolicy(
  text: string,
  readKey: (path: string) => Promise<string>,
  where?: string,
): Promise<Converted<PolicyFile>> {
  const file = parseFile(text, where);
  const names = new Map<string, string>();
  const notes: string[] = [];
  const rules: object[] = [];
  const scopes = Object.entries(file.transports.docker ?? {});
  if (scopes.every(([scope]) => scope !== '')) scopes.push(['', file.default]);
  for (const [scope, entries] of scopes) {
    const title = scope === '' ? 'the default' : scope;
    const patterns = patternsOf(scope);
    if (patterns.length === 0) {
      notes.push(`${title}: left out, as rules are for whole repositories of one registry`);
      continue;
    }
    const groups: string[][] = [];
    const problem = await readEntries(entries, groups, names, readKey);
    if (problem !== undefined) {
      notes.push(`${title}: ${problem}`);
      rules.push(...patterns.map((repository) => ({ repository, refused: true })));
      continue;
    }
    const demands = groups.map((signers) => ({ signers }));
    const images = demands.length === 1 ? demands[0] : { allOf: demands };
    rules.push(...patterns.map((repository) => ({ repository, images })));
  }
  const keys = Object.fromEntries([...names].map(([pem, name]) => [name, { pem }]));
  return { policy: { version: 1, keys, rules: withRefusals(rules, Object.keys(keys)) }, notes };
}

/** A rule that allows no digest refuses everything, also where a shorter one would accept. */
function withRefusals(rules: readonly object[], names: readonly string[]): object[] {
  const [anybody] = names;
  return rules.flatMap((rule) => {
    if (!('refused' in rule)) return [rule];
    if (anybody === undefined) return [];
    const { refused: _, ...rest } = rule;
    return [{ ...rest, images: { signers: [anybody] }, allowedDigests: [] }];
  });
}

function parseFile(text: string, where: string | undefined): v.InferOutput<typeof fileSchema> {
  try {
    if (text.length > MAX_FILE) throw new Error('the file is over 1 MiB');
    return v.parse(fileSchema, parseStrictJson(text));
  } catch (cause) {
    throw new SnapgateError('CONFIG_INVALID', `containers policy: ${(cause as Error).message}`, {
      ...(where === undefined ? {} : { where }),
      hint: 'Give a policy.json as podman reads it.',
      cause,
    });
  }
}

/** A scope covers its own name and what is beneath; a host alone is no repository. */
function patternsOf(scope: string): string[] {
  if (scope === '') return ['*'];
  return [scope.includes('/') ? scope : '', `${scope}/*`].filter(
    (pattern) => pattern !== '' && isRepositoryPattern(pattern),
  );
}

/** Fills `groups` with the names of keys, one of each of which must have signed; or says why not. */
async function readEntries(
  entries: readonly Entry[],
  groups: string[][],
  names: Map<string, string>,
  readKey: (path: string) => Promise<string>,
): Promise<string | undefined> {
  if (entries.length === 0) return 'refused, as it asks for nothing';
  for (const { type, keyPath, keyPaths, keyData, keyDatas } of entries) {
    if (type === 'reject') return 'refused';
    if (type !== 'sigstoreSigned') return `refused, as ${type} cannot be said here`;
    const pems: string[] = [];
    for (const path of [keyPath ?? [], keyPaths ?? []].flat()) pems.push(await readKey(path));
    for (const data of [keyData ?? [], keyDatas ?? []].flat()) {
      pems.push(Buffer.from(data, 'base64').toString());
    }
    if (pems.length === 0) return 'refused, as only signatures by key can be said here';
    groups.push([...new Set(pems.map((pem) => nameOf(parsePublicKey(pem).pem, names)))]);
  }
  return undefined;
}

function nameOf(pem: string, names: Map<string, string>): string {
  const name = names.get(pem) ?? `key-${names.size + 1}`;
  names.set(pem, name);
  return name;
}
