import type { Command } from '../../shared/cli/command.ts';
import { formatBytes } from '../../shared/cli/format.ts';
import { type VerifyReport, verifyHeld } from '../update/verify-held.ts';
import { withMachine } from './open-machine.ts';
import { atMost } from './options.ts';

export const verifyCommand: Command<VerifyReport> = {
  name: 'verify',
  summary: 'Judge an image that is held: its signatures, and every byte of its layers',
  arguments: '[DEPLOYMENT|IMAGE-ID]',
  options: {
    offline: { type: 'boolean', help: 'check the layers only, without asking for signatures' },
  },
  async run(context) {
    atMost(context.positionals, 1);
    const { options, positionals, signal } = context;
    const how = { which: positionals[0], offline: options.offline === true, signal };
    return withMachine(context, (machine) => verifyHeld(machine, how));
  },
  print({ image, manifest, signers, layers }, { out }) {
    out.write(`image    ${image}\nmanifest ${manifest}\n`);
    if (signers !== null) out.write(`signed by ${signers.join(', ')}\n`);
    const bytes = layers.reduce((sum, layer) => sum + layer.bytes, 0);
    out.write(`${layers.length} layers, ${formatBytes(bytes)}: all as they were published\n`);
  },
};
