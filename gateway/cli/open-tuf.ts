import type { Log } from '../../shared/log.ts';
import { TufFolder } from '../tuf/folder.ts';
import { TufKeeper } from '../tuf/keeper.ts';
import type { GatewayConfig } from './config.ts';
import { openSigner } from './open-signing.ts';

const HOUR = 3600;

/** The TUF repository that a gateway serves. */
export type OpenedTuf = {
  readonly folder: TufFolder;
  close(): Promise<void>;
};

/**
 * Opens the TUF repository that the configuration wants, if any, and keeps it signed where it names
 * the online keys. Throws METADATA_MISSING, CONFIG_INVALID, KEY_INVALID.
 */
export async function openTuf(
  { tuf }: Pick<GatewayConfig, 'tuf'>,
  log: Log,
): Promise<OpenedTuf | undefined> {
  if (tuf === undefined) return undefined;
  const folder = await TufFolder.open(tuf.folder);
  if (tuf.snapshot === undefined || tuf.timestamp === undefined) {
    log('info', 'channels', { folder: tuf.folder, signing: false });
    return { folder, close: async () => {} };
  }
  const signing = {
    snapshot: await openSigner(tuf.snapshot, 'tuf.snapshot'),
    timestamp: await openSigner(tuf.timestamp, 'tuf.timestamp'),
    snapshotSeconds: tuf.snapshotHours * HOUR,
    timestampSeconds: tuf.timestampHours * HOUR,
  };
  const keeper = new TufKeeper({ folder, signing, log });
  log('info', 'channels', { folder: tuf.folder, signing: true });
  await keeper.start();
  return { folder, close: () => keeper.close() };
}
