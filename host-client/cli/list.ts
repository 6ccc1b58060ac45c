import type { Command } from '../../shared/cli/command.ts';
import { formatTable } from '../../shared/cli/format.ts';
import type { Digest } from '../../shared/digest.ts';
import type { Deployment } from '../deploy/deployment.ts';
import { withMachine } from './open-machine.ts';
import { atMost } from './options.ts';

/** What `list --json` prints. */
type ListReport = {
  readonly deployments: readonly (Deployment & {
    readonly running: boolean;
    readonly next: boolean;
    readonly rollback: boolean;
  })[];
  /** The images of the machine's repository in Podman's storage. */
  readonly images: readonly {
    readonly config: Digest;
    readonly manifest: Digest | null;
    readonly names: readonly string[];
    readonly created: string | null;
  }[];
};

export const listCommand: Command<ListReport> = {
  name: 'list',
  summary: 'List the deployments and the images they were made from',
  options: {},
  async run(context) {
    atMost(context.positionals, 0);
    return withMachine(context, async ({ config, deployments, storage }) => {
      const all = await deployments.list();
      const { running, next, rollback } = await deployments.roles(all);
      const ours = (await storage.listImages()).filter(
        (image) =>
          image.names.some((name) => name.startsWith(`${config.name}:`)) ||
          all.some((one) => one.config === image.config),
      );
      return {
        deployments: all.map((one) => ({
          ...one,
          running: one.id === running?.id,
          next: one.id === next?.id,
          rollback: one.id === rollback?.id,
        })),
        images: ours.map((image) => ({
          ...{ config: image.config, manifest: image.manifest ?? null, names: image.names },
          created: image.created ?? null,
        })),
      };
    });
  },
  print({ deployments, images }, { out }) {
    const rows = deployments.map((one) => [
      one.id,
      [one.running && 'running', one.next && 'next', one.rollback && 'rollback']
        .filter(Boolean)
        .join(', '),
      one.pinned ? `${one.state}, pinned` : one.state,
      one.manifest.slice(0, 'sha256:'.length + 12),
      one.created,
    ]);
    out.write(formatTable(['deployment', 'part', 'state', 'image', 'made'], rows));
    const held = images.map(({ config, manifest, names }) => [
      config.slice('sha256:'.length, 'sha256:'.length + 12),
      manifest?.slice(0, 'sha256:'.length + 12) ?? '',
      names.join(', '),
    ]);
    out.write(`\n${formatTable(['image id', 'manifest', 'names'], held)}`);
  },
};
