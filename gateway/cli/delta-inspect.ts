import * as v from 'valibot';
import type { Command, CommandContext } from '../../shared/cli/command.ts';
import { formatBytes, formatTable } from '../../shared/cli/format.ts';
import type { DeltaBounds } from '../../shared/delta/annotations.ts';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader } from '../../shared/oci/content.ts';
import type { PlanLayer } from '../../shared/plan.ts';
import { findSignatures } from '../../shared/signing/find-signatures.ts';
import { type ReadDelta, readDelta } from '../plan/read-delta.ts';
import { fullBytes } from '../plan/ways.ts';
import { EXPLAIN_OPTIONS, type Explanation, explain, printExplanation } from './delta-explain.ts';
import { openText, REGISTRY_OPTIONS } from './delta-options.ts';

/** Most signatures shown. */
const MAX_SIGNATURES = 64;

/** A signature that was found; nothing here says that it is good. */
type ListedSignature = {
  readonly form: 'bundle' | 'legacy';
  /** Base64 of the sha256 of the public key. */
  readonly keyHint?: string;
  /** The statement that was signed. */
  readonly statement?: unknown;
  /** Why it cannot be read. */
  readonly problem?: string;
};

/** What `delta inspect --json` prints. Sizes are bytes. */
type InspectResult = {
  readonly artifact: string;
  readonly format?: string | undefined;
  readonly source: { readonly config: string; readonly manifest?: string | undefined };
  readonly target: {
    readonly config: string;
    readonly manifest: string;
    readonly platform: string;
  };
  readonly layers: readonly PlanLayer[];
  /** What applying it takes, where it says so. */
  readonly bounds?: DeltaBounds | undefined;
  readonly deltaBytes: number;
  readonly fullBytes: number;
  readonly signatures: readonly ListedSignature[];
  readonly explanation?: Explanation;
};

export const deltaInspectCommand: Command<InspectResult> = {
  name: 'delta inspect',
  summary: 'Show what a delta holds; its signatures are listed, not verified',
  arguments: 'REF',
  options: { ...EXPLAIN_OPTIONS, ...REGISTRY_OPTIONS },
  run,
  print,
};

async function run(context: CommandContext): Promise<InspectResult> {
  const [text, ...rest] = context.positionals;
  if (text === undefined || rest.length > 0) {
    throw new SnapgateError('USAGE', 'name one delta', {
      hint: 'For example: snapgate delta inspect oci:delta',
    });
  }
  const opened = await openText(context, text);
  try {
    const delta = await readDelta(opened.store, opened.tagOrDigest, context.signal);
    const { facts, target } = delta;
    const { config, manifest, platform } = target.facts;
    const explanation = await explain(context, opened.store, delta);
    return {
      artifact: facts.artifact,
      format: facts.format,
      source: { config: facts.sourceConfig, manifest: facts.sourceManifest },
      target: { config, manifest, platform },
      layers: layersOf(delta),
      bounds: delta.bounds,
      deltaBytes: facts.bytes,
      fullBytes: fullBytes(target.facts),
      signatures: await listSignatures(opened.store, facts.artifact),
      ...(explanation === undefined ? {} : { explanation }),
    };
  } finally {
    await opened.close();
  }
}

function layersOf({ facts, target }: ReadDelta): PlanLayer[] {
  const parts = new Map(facts.parts.map((part) => [part.to, part]));
  return target.facts.layers.map(({ diffId, digest }) => {
    const part = parts.get(digest);
    if (part === undefined) return { diffId, kind: 'reused', bytes: 0 };
    return { diffId, kind: part.kind, bytes: part.bytes };
  });
}

async function listSignatures(store: ContentReader, subject: Digest): Promise<ListedSignature[]> {
  const listed: ListedSignature[] = [];
  for await (const found of findSignatures(store, subject)) {
    if ('reason' in found) listed.push({ form: found.form, problem: found.reason });
    else listed.push(found.form === 'bundle' ? describeBundle(found.bytes) : { form: 'legacy' });
    if (listed.length === MAX_SIGNATURES) break;
  }
  return listed;
}

const bundleSchema = v.object({
  verificationMaterial: v.optional(
    v.object({ publicKey: v.optional(v.object({ hint: v.optional(v.string()) })) }),
  ),
  dsseEnvelope: v.optional(v.object({ payload: v.string() })),
});

function describeBundle(bytes: Uint8Array): ListedSignature {
  try {
    const bundle = v.parse(bundleSchema, JSON.parse(new TextDecoder().decode(bytes)));
    const keyHint = bundle.verificationMaterial?.publicKey?.hint;
    const payload = Buffer.from(bundle.dsseEnvelope?.payload ?? '', 'base64').toString('utf8');
    return {
      form: 'bundle',
      ...(keyHint === undefined ? {} : { keyHint }),
      ...(payload === '' ? {} : { statement: JSON.parse(payload) }),
    };
  } catch {
    return { form: 'bundle' };
  }
}

function print(result: InspectResult, { out }: CommandContext['io']): void {
  const { source, target } = result;
  out.write(`delta   ${result.artifact}\n`);
  out.write(`format  ${result.format ?? 'no layer deltas'}\n`);
  out.write(`source  ${source.manifest ?? '(manifest not named)'} config ${source.config}\n`);
  out.write(`target  ${target.manifest} config ${target.config} ${target.platform}\n\n`);
  const rows = result.layers.map((l) => [l.diffId.slice(7, 19), l.kind, formatBytes(l.bytes)]);
  out.write(formatTable(['layer', 'kind', 'bytes'], rows));
  const share = ((100 * result.deltaBytes) / result.fullBytes).toFixed(1);
  const sizes = `${formatBytes(result.deltaBytes)} of ${formatBytes(result.fullBytes)}`;
  out.write(`\n${sizes} for the whole image (${share}%)\n`);
  const { bounds } = result;
  if (bounds !== undefined) {
    const window = formatBytes(bounds.windowBytes);
    const room = formatBytes(bounds.installedBytes);
    out.write(`rebuilds files of ${room}, with a window of ${window}\n`);
  }
  if (result.explanation !== undefined) printExplanation(result.explanation, out);
  if (result.signatures.length === 0) out.write('not signed\n');
  for (const { form, keyHint } of result.signatures) {
    out.write(`signature (${form})${keyHint === undefined ? '' : ` by key ${keyHint}`}\n`);
  }
}
