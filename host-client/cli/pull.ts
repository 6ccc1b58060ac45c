import type { Command } from '../../shared/cli/command.ts';
import { formatBytes } from '../../shared/cli/format.ts';
import { digestHex } from '../../shared/digest.ts';
import { loadConfig } from '../config.ts';
import { pullImage } from '../update/pull.ts';
import { targetNamed } from '../update/pull-config.ts';
import type { PullReport } from '../update/report.ts';
import { withConfig } from './open-machine.ts';
import { atMost, overridesFrom } from './options.ts';

export const pullCommand: Command<PullReport> = {
  name: 'pull',
  summary: "Bring an image into Podman's storage, verified and by the smallest way",
  arguments: '[HOST/REPO[:TAG]]',
  options: {
    again: { type: 'boolean', help: 'also an image that has failed on this machine' },
    full: { type: 'boolean', help: 'take the whole image, also where a delta would do' },
  },
  async run(context) {
    atMost(context.positionals, 1);
    const { options, positionals, signal } = context;
    const own = await loadConfig(overridesFrom(options));
    const [reference] = positionals;
    const { config, alias } =
      reference === undefined ? { config: own, alias: undefined } : targetNamed(reference, own);
    const how = {
      full: options.full === true,
      again: options.again === true,
      signal,
      ...(alias === undefined ? {} : { alias }),
    };
    return withConfig(config, context, (machine) => pullImage(machine, how));
  },
  print({ name, image, method, bytesDownloaded, fallbackReason }, { out }) {
    const how = { delta: 'by delta', full: 'whole', none: 'held already' }[method];
    out.write(`${name} ${how}: ${formatBytes(bytesDownloaded)} downloaded\n`);
    if (fallbackReason !== null) out.write(`why not smaller: ${fallbackReason}\n`);
    out.write(`${digestHex(image)}\n`);
  },
};
