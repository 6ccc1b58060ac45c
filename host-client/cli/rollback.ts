import type { Command } from '../../shared/cli/command.ts';
import { type RollbackReport, rollBack } from '../deploy/roll-back.ts';
import { changingMachine } from './open-machine.ts';
import { atMost } from './options.ts';

export const rollbackCommand: Command<RollbackReport> = {
  name: 'rollback',
  summary: 'Boot what was booted before, or a named deployment, next',
  arguments: '[DEPLOYMENT]',
  options: {},
  async run(context) {
    atMost(context.positionals, 1);
    return changingMachine(context, ({ state, deployments }) =>
      state.exclusively(() => rollBack(deployments, context.positionals[0]), context.signal),
    );
  },
  print({ from, to, subvolume }, { out }) {
    const target = to === null ? `subvolume ${subvolume}` : to;
    out.write(`boots next: ${target}${from === null ? '' : `, no longer ${from}`}\n`);
  },
};
