import { once } from 'node:events';
import { type Command, requiredOption } from '../../shared/cli/command.ts';
import { jsonLog } from '../../shared/log.ts';
import { loadConfig } from './config.ts';
import { startGateway } from './gateway.ts';

/** `snapgate serve`: the gateway itself, until it is told to stop. Its log goes to standard error. */
export const serveCommand: Command<{ url: string }> = {
  name: 'serve',
  summary: 'Run the gateway in front of a registry',
  options: {
    config: {
      type: 'string',
      required: true,
      value: 'FILE',
      help: 'configuration, as in deploy/snapgate.yaml',
    },
  },
  async run({ options, io, signal }) {
    const config = await loadConfig(requiredOption(options, 'config'));
    const log = jsonLog((line) => io.err.write(line), config.log.level);
    const { url, close } = await startGateway(config, log);
    if (!signal.aborted) await once(signal, 'abort');
    log('info', 'stopping');
    await close();
    return { url };
  },
};
