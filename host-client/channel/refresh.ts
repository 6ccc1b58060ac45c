import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Root } from '@tufjs/models';
import { SnapgateError } from '../../shared/errors.ts';
import { issuedAt, parseMetadata } from '../../shared/tuf/metadata.ts';
import { MAX_BYTES, MAX_DELEGATIONS, MAX_ROOTS } from '../../shared/tuf/roles.ts';
import {
  channelUnknown,
  type FoundStatement,
  findStatement,
  refuseExpired,
  type TrustedView,
} from '../../shared/tuf/view.ts';
import type { MetadataSource } from './metadata-source.ts';
import type { TrustedMetadata, WorkingCopy } from './trusted-metadata.ts';
import { tufError } from './tuf-errors.ts';
import { TufFetcher } from './tuf-fetcher.ts';

/** What a refresh is about. */
export type RefreshOptions = {
  /** The root that the policy trusts, as its file. */
  readonly anchor: Uint8Array;
  readonly source: MetadataSource;
  /** `<repository>/<tag>`. */
  readonly path: string;
  /** Now, or the latest time that was proved under a root, where that is later. */
  readonly now: (root: Root) => Date;
  /** Longest time for everything, in milliseconds. */
  readonly timeoutMs: number;
  /** Change nothing that is kept. */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal | undefined;
};

/** What a refresh found. */
export type Refreshed = {
  readonly found: FoundStatement;
  readonly view: TrustedView;
  /** The time it is at least. */
  readonly now: Date;
};

/**
 * Brings the trusted metadata up to date and finds the statement about a channel (TUF specification
 * 1.0, section 5). New roots are kept whatever comes after them, so that a key that was revoked stays
 * so; everything else only when all of it is good. Throws METADATA_MISSING, METADATA_INVALID,
 * METADATA_UNSIGNED, METADATA_EXPIRED, METADATA_ROLLBACK, METADATA_MISMATCH, CHANNEL_UNKNOWN,
 * LIMIT_EXCEEDED, UPSTREAM_TIMEOUT, and what the connection throws.
 */
export async function refreshChannel(
  trusted: TrustedMetadata,
  options: RefreshOptions,
): Promise<Refreshed> {
  const { anchor, signal, dryRun } = options;
  const action = async (work: WorkingCopy) => {
    await walk(work, options).catch(async (thrown) => {
      await work.keep(['root.json']);
      throw thrown;
    });
    const refreshed = await judge(work, options);
    await work.keep();
    return refreshed;
  };
  return dryRun ? trusted.rehearse(anchor, action) : trusted.refresh(anchor, action, signal);
}

/** Lets the TUF client do its work in a folder. */
async function walk({ dir }: WorkingCopy, options: RefreshOptions): Promise<void> {
  const { source, path, timeoutMs, signal } = options;
  // Only a machine that follows a channel takes the time and memory to load it.
  const { Updater } = await import('tuf-js');
  const deadline = AbortSignal.timeout(timeoutMs);
  const ended = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
  const held = async (file: string) =>
    file === 'timestamp.json' ? await readFile(join(dir, file)).catch(() => undefined) : undefined;
  const fetcher = new TufFetcher(source, held, ended);
  try {
    const updater = new Updater({
      ...{ metadataDir: dir, metadataBaseUrl: 'metadata://channel', fetcher },
      config: {
        ...{ maxRootRotations: MAX_ROOTS, maxDelegations: MAX_DELEGATIONS },
        ...{ rootMaxLength: MAX_BYTES.root, timestampMaxLength: MAX_BYTES.timestamp },
        ...{ snapshotMaxLength: MAX_BYTES.snapshot, targetsMaxLength: MAX_BYTES.targets },
      },
    });
    await updater.getTargetInfo(path);
  } catch (thrown) {
    signal?.throwIfAborted();
    if (deadline.aborted) {
      throw new SnapgateError('UPSTREAM_TIMEOUT', 'channel metadata did not come in time', {
        where: source.name,
        hint: 'Check the network and the gateway, then run the same command again.',
      });
    }
    throw fetcher.failure ?? tufError(thrown, `${source.name}: ${path}`);
  }
}

/** Reads what the client accepted, and holds it against the time that was proved. */
async function judge(work: WorkingCopy, options: RefreshOptions): Promise<Refreshed> {
  const { path, source } = options;
  const where = `${source.name}: ${path}`;
  const view = await readView(work.dir);
  const proved = issuedAt(view.timestamp.signed)?.getTime() ?? 0;
  const now = new Date(Math.max(proved, options.now(view.root.signed).getTime()));
  const found = findStatement(view, path);
  refuseExpired(view, found?.role ?? 'targets', now, where);
  if (found !== undefined) return { found, view, now };
  throw channelUnknown(where);
}

/** Reads metadata that was accepted. Throws METADATA_INVALID, and as a file that is not there. */
export async function readView(dir: string): Promise<TrustedView> {
  const read = (role: string) => readFile(join(dir, `${role}.json`));
  const parse = async <Kind extends 'root' | 'timestamp' | 'snapshot'>(kind: Kind) =>
    parseMetadata(kind, await read(kind), kind);
  const [root, timestamp, snapshot] = [
    await parse('root'),
    await parse('timestamp'),
    await parse('snapshot'),
  ];
  const roles = new Map();
  for (const file of Object.keys(snapshot.signed.meta)) {
    const role = file.slice(0, -'.json'.length);
    const bytes = await read(encodeURIComponent(role)).catch(() => undefined);
    if (bytes !== undefined) roles.set(role, parseMetadata('targets', bytes, file));
  }
  return { root, timestamp, snapshot, targets: (role) => roles.get(role) };
}
