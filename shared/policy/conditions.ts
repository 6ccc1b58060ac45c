import { readBounds } from '../delta/annotations.ts';
import type { Digest } from '../digest.ts';
import { SnapgateError } from '../errors.ts';
import type { ContentReader, StoredManifest } from '../oci/content.ts';
import {
  type ImageConfig,
  MAX_CONFIG_BYTES,
  type Manifest,
  parseImageConfig,
  parseManifest,
  platformName,
} from '../oci/manifest.ts';
import { isIndexType } from '../oci/media-types.ts';
import { readSmallBlob } from '../oci/read-small-blob.ts';
import { printable } from '../signing/verdict.ts';
import type { RuleInput } from './policy-schema.ts';
import { compareVersions, parseVersion, type Version } from './version.ts';

const VERSION = 'org.opencontainers.image.version';
const CREATED = 'org.opencontainers.image.created';

/** What a rule asks besides signatures. What is absent is not asked. */
export type Conditions = {
  /** Name to the values that it may have. */
  readonly annotations: ReadonlyMap<string, readonly string[]>;
  readonly platforms: readonly string[] | undefined;
  readonly allowed: ReadonlySet<Digest> | undefined;
  readonly denied: ReadonlySet<Digest>;
  readonly oldestVersion: { readonly text: string; readonly version: Version } | undefined;
  readonly oldestCreated: Date | undefined;
  readonly largest: NonNullable<RuleInput['largest']>;
};

/** One thing that was checked. */
export type CheckedCondition = {
  readonly condition: string;
  readonly met: boolean;
  /** What was found, in words. */
  readonly found: string;
};

/** No conditions at all. */
export const NO_CONDITIONS: Conditions = {
  ...{ annotations: new Map(), platforms: undefined, allowed: undefined, denied: new Set() },
  ...{ oldestVersion: undefined, oldestCreated: undefined, largest: {} },
};

/** Takes the conditions out of a rule that was checked by the schema. */
export function readConditions(rule: RuleInput): Conditions {
  const { annotations = {}, platforms, allowedDigests, deniedDigests, oldest } = rule;
  const version = oldest?.version === undefined ? undefined : parseVersion(oldest.version);
  return {
    annotations: new Map(
      Object.entries(annotations).map(([name, value]) => [name, [value].flat()]),
    ),
    platforms,
    allowed: allowedDigests === undefined ? undefined : new Set(allowedDigests),
    denied: new Set(deniedDigests),
    oldestVersion: version && { text: oldest?.version ?? '', version },
    oldestCreated: oldest?.created,
    largest: rule.largest ?? {},
  };
}

/** Checks what the digest alone decides; nothing is read. `index` is what the image was chosen from. */
export function checkDigest(
  { allowed, denied }: Conditions,
  digest: Digest,
  kind: 'image' | 'delta',
  index?: Digest,
): CheckedCondition[] {
  const checked: CheckedCondition[] = [];
  if (denied.size > 0) {
    const met = !denied.has(digest) && (index === undefined || !denied.has(index));
    checked.push({ condition: 'deniedDigests', met, found: digest });
  }
  if (allowed !== undefined && kind === 'image') {
    const met = allowed.has(digest) || (index !== undefined && allowed.has(index));
    checked.push({ condition: 'allowedDigests', met, found: digest });
  }
  return checked;
}

/**
 * Checks what only the content decides. An index is no image: its images are checked when they are
 * chosen. The config is read only where something is asked of it. Throws MANIFEST_INVALID,
 * CONFIG_BLOB_INVALID, DELTA_INVALID and what reading throws.
 */
export async function checkContent(
  conditions: Conditions,
  stored: StoredManifest,
  kind: 'image' | 'delta',
  reader: ContentReader,
  signal?: AbortSignal,
): Promise<CheckedCondition[]> {
  if (isIndexType(stored.mediaType)) return [];
  const manifest = parseManifest(stored.bytes);
  if (kind === 'delta') return deltaSizes(conditions, manifest);
  const checked = imageSize(conditions, manifest);
  const { digest } = manifest.config;
  if (conditions.denied.size > 0) {
    const met = !conditions.denied.has(digest);
    checked.push({ condition: 'deniedDigests', met, found: `config ${digest}` });
  }
  if (!asksConfig(conditions) || checked.some(({ met }) => !met)) return checked;
  const bytes = await readSmallBlob(reader, manifest.config, MAX_CONFIG_BYTES, signal);
  const config = parseImageConfig(bytes);
  const note = (name: string) => manifest.annotations?.[name] ?? config.config?.Labels?.[name];
  return [...checked, ...platform(conditions, config), ...notes(conditions, note, config)];
}

/** Whether anything but digests is asked of a kind of content. */
export function asksContent(conditions: Conditions, kind: 'image' | 'delta'): boolean {
  const { largest, denied } = conditions;
  const sizes = Object.keys(largest).some((name) => name.startsWith(kind));
  return sizes || (kind === 'image' && (asksConfig(conditions) || denied.size > 0));
}

/** Throws POLICY_REFUSED for the first condition that is not met. */
export function refuseUnmet(checked: readonly CheckedCondition[], where: string): void {
  const unmet = checked.find(({ met }) => !met);
  if (unmet === undefined) return;
  throw new SnapgateError('POLICY_REFUSED', `${unmet.condition} is not met: ${unmet.found}`, {
    where,
    hint: 'See the rule for this repository in the policy file.',
  });
}

function asksConfig({ annotations, platforms, oldestVersion, oldestCreated }: Conditions): boolean {
  return annotations.size > 0 || [platforms, oldestVersion, oldestCreated].some(Boolean);
}

function platform({ platforms }: Conditions, config: ImageConfig): CheckedCondition[] {
  if (platforms === undefined) return [];
  const found = platformName(config);
  // A platform without a variant stands for all variants.
  const met = platforms.some((one) => found === one || found.startsWith(`${one}/`));
  return [{ condition: 'platforms', met, found: printable(found) }];
}

function notes(
  { annotations, oldestVersion, oldestCreated }: Conditions,
  note: (name: string) => string | undefined,
  config: ImageConfig,
): CheckedCondition[] {
  const checked: CheckedCondition[] = [];
  for (const [name, values] of annotations) {
    const value = note(name);
    const met = value !== undefined && values.includes(value);
    checked.push({ condition: `annotations: ${printable(name)}`, met, found: shown(value) });
  }
  if (oldestVersion !== undefined) {
    const text = note(VERSION);
    const version = parseVersion(text ?? '');
    const met = version !== undefined && compareVersions(version, oldestVersion.version) >= 0;
    const found = `${shown(text)}, oldest is ${oldestVersion.text}`;
    checked.push({ condition: 'oldest.version', met, found });
  }
  if (oldestCreated !== undefined) {
    const text = note(CREATED) ?? config.created;
    // Not a time: every comparison with it is false.
    const met = Date.parse(text ?? '') >= oldestCreated.getTime();
    const found = `${shown(text)}, oldest is ${oldestCreated.toISOString()}`;
    checked.push({ condition: 'oldest.created', met, found });
  }
  return checked;
}

function imageSize({ largest }: Conditions, { config, layers }: Manifest): CheckedCondition[] {
  const blobs = new Map(layers.map(({ digest, size }) => [digest, size]));
  const bytes = [...blobs.values()].reduce((sum, size) => sum + size, config.size);
  return atMost('imageBytes', largest.imageBytes, bytes);
}

/** A size that the delta does not state is as good as too large. */
function deltaSizes({ largest }: Conditions, manifest: Manifest): CheckedCondition[] {
  const bounds = readBounds(manifest);
  const wire = manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
  return [
    ...atMost('deltaBytes', largest.deltaBytes, wire),
    ...atMost('deltaTemporaryBytes', largest.deltaTemporaryBytes, bounds?.temporaryBytes),
    ...atMost('deltaInstalledBytes', largest.deltaInstalledBytes, bounds?.installedBytes),
    ...atMost('deltaWindowBytes', largest.deltaWindowBytes, bounds?.windowBytes),
  ];
}

function atMost(
  name: string,
  most: number | undefined,
  bytes: number | undefined,
): CheckedCondition[] {
  if (most === undefined) return [];
  const found = `${bytes ?? 'not stated'}, at most ${most}`;
  return [{ condition: `largest.${name}`, met: bytes !== undefined && bytes <= most, found }];
}

function shown(value: string | undefined): string {
  return value === undefined ? 'none' : printable(value, 80);
}
