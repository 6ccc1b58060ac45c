import type { Log } from '../../shared/log.ts';
import type { Repository } from '../../shared/registry/repository.ts';
import { TufFolder } from '../tuf/folder.ts';
import { TufKeeper } from '../tuf/keeper.ts';
import type { OnlineSigning } from '../tuf/online.ts';
import type { TakeOver } from '../tuf/take-over.ts';
import type { GatewayConfig } from './config.ts';
import { openSigner } from './open-signing.ts';

const HOUR = 3600;

/** The TUF repository that a gateway serves. */
export type OpenedTuf = {
  readonly folder: TufFolder;
  close(): Promise<void>;
};

/**
 * Opens the TUF repository that the configuration wants, if any, takes over what was published to
 * the registry, and keeps it signed where it names the online keys. `own` opens a repository with the
 * gateway's own credentials. Throws METADATA_MISSING, CONFIG_INVALID, KEY_INVALID.
 */
export async function openTuf(
  { tuf }: Pick<GatewayConfig, 'tuf'>,
  own: (repository: string) => Repository,
  log: Log,
): Promise<OpenedTuf | undefined> {
  if (tuf === undefined) return undefined;
  const from = tuf.from === undefined ? undefined : registrySource(tuf.from, own);
  const folder = await (from === undefined
    ? TufFolder.open(tuf.folder)
    : TufFolder.openOrCreate(tuf.folder));
  const signing = await openOnlineSigning(tuf);
  log('info', 'channels', { folder: tuf.folder, from: tuf.from, signing: signing !== undefined });
  if (signing === undefined && from === undefined) return { folder, close: async () => {} };
  const keeper = new TufKeeper({ folder, signing, from, log });
  const started = keeper.start();
  // The registry may be down; what is in the folder is served meanwhile.
  if (from === undefined) await started;
  return { folder, close: () => keeper.close() };
}

function registrySource(text: string, own: (repository: string) => Repository): TakeOver {
  const colon = text.lastIndexOf(':');
  return { reader: own(text.slice(0, colon)), tag: text.slice(colon + 1), images: own };
}

async function openOnlineSigning(
  tuf: NonNullable<GatewayConfig['tuf']>,
): Promise<OnlineSigning | undefined> {
  if (tuf.snapshot === undefined || tuf.timestamp === undefined) return undefined;
  return {
    snapshot: await openSigner(tuf.snapshot, 'tuf.snapshot'),
    timestamp: await openSigner(tuf.timestamp, 'tuf.timestamp'),
    snapshotSeconds: tuf.snapshotHours * HOUR,
    timestampSeconds: tuf.timestampHours * HOUR,
  };
}
