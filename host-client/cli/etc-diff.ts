import { join } from 'node:path';
import type { Command } from '../../shared/cli/command.ts';
import { formatTable } from '../../shared/cli/format.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { sameEntry } from '../etc/entry.ts';
import { scanEtc } from '../etc/scan.ts';
import { withMachine } from './open-machine.ts';
import { atMost } from './options.ts';

/** What `etc diff --json` prints: how the machine's /etc differs from its image's. */
type EtcDiff = {
  readonly changes: readonly {
    readonly path: string;
    readonly change: 'added' | 'changed' | 'removed';
  }[];
};

export const etcDiffCommand: Command<EtcDiff> = {
  name: 'etc diff',
  summary: "Show what of /etc is this machine's own: what an update keeps",
  options: {},
  async run(context) {
    atMost(context.positionals, 0);
    return withMachine(context, async ({ config, deployments, storage }) => {
      const { running } = await deployments.roles(await deployments.list());
      const images = await storage.listImages();
      const top = images.find((one) => one.config === running?.config)?.layerIds.at(-1);
      if (top === undefined) {
        throw new SnapgateError(
          'NOTHING_TO_DO',
          'what runs is no deployment of an image held here',
        );
      }
      const shipped = await scanEtc(join(storage.subvolumeOf(top), 'etc'));
      const own = await scanEtc(join(config.root, 'etc'));
      const changes = [...new Set([...shipped.keys(), ...own.keys()])]
        .filter((path) => !sameEntry(shipped.get(path), own.get(path)))
        .sort()
        .map((path) => {
          if (!shipped.has(path)) return { path, change: 'added' as const };
          return { path, change: own.has(path) ? ('changed' as const) : ('removed' as const) };
        });
      return { changes };
    });
  },
  print({ changes }, { out }) {
    if (changes.length === 0) out.write('/etc is as the image has it\n');
    else {
      const rows = changes.map(({ path, change }) => [change, `/etc/${path}`]);
      out.write(formatTable(['change', 'path'], rows));
    }
  },
};
