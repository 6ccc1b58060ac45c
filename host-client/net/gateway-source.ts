import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import { Repository } from '../../shared/registry/repository.ts';
import type { Transport } from '../../shared/registry/transport.ts';
import type { Config } from '../config.ts';
import { budgetSchema, DailyBudget } from '../line/budget.ts';
import { RateLimit } from '../line/rate-limit.ts';
import { readRecord, writeRecord } from '../system/records.ts';
import { credentialsFor } from './credentials.ts';
import { type GatewayApi, gatewayApi } from './gateway-api.ts';
import { createTransport } from './transport.ts';

/** A gateway, and the ways to speak with it. */
export type ReachedGateway = {
  readonly gateway: URL;
  readonly repository: Repository;
  readonly api: GatewayApi;
  readonly transport: Transport;
};

/** The gateway that answered, and what its tag stands for. */
export type GatewaySource = ReachedGateway & {
  /** What the tag named when it was asked; undefined when the gateway did not say. */
  readonly tagDigest: Digest | undefined;
};

/** The line to the gateways: all that goes over it is counted. */
export class Line {
  readonly #config: Config;
  readonly #notice: (message: string) => void;
  #close: (() => void) | undefined;
  readonly #rate: RateLimit | undefined;
  #budget: DailyBudget | undefined;
  #received = 0;

  constructor(config: Config, notice: (message: string) => void) {
    this.#config = config;
    this.#notice = notice;
    const { bytesPerSecond } = config.line;
    this.#rate = bytesPerSecond === undefined ? undefined : new RateLimit(bytesPerSecond);
  }

  /** Bytes of all bodies that came so far. */
  get received(): number {
    return this.#received;
  }

  /** Asks the gateways in their order for the tag; the first that answers is the source. */
  async connect(signal?: AbortSignal): Promise<GatewaySource> {
    return this.first(async (reached) => {
      const tagDigest = await reached.repository.tagDigest(this.#config.tag, signal);
      return { ...reached, tagDigest };
    });
  }

  /** Asks the gateways in their order, and gives what the first that answers gave. */
  async first<T>(ask: (reached: ReachedGateway) => Promise<T>): Promise<T> {
    const { gateways, repository: name } = this.#config;
    const transport = await this.#open();
    for (const [i, gateway] of gateways.entries()) {
      const credentials = await credentialsFor(this.#config, gateway);
      const options = { transport, baseUrl: gateway, repository: name, credentials };
      const repository = new Repository(options);
      try {
        return await ask({ gateway, repository, transport, api: gatewayApi(repository) });
      } catch (thrown) {
        const error = toSnapgateError(thrown);
        const isLast = i === gateways.length - 1;
        if (isLast || error.httpStatus < 500 || error.exitStatus !== 5) throw error;
        this.#notice(`${gateway.host}: ${error.message}; the next gateway is asked`);
      }
    }
    throw new SnapgateError('CONFIG_INVALID', 'no gateway is configured');
  }

  /** Ends all connections. */
  close(): void {
    this.#close?.();
  }

  async #open(): Promise<Transport> {
    const { caFile, waits } = this.#config;
    const ca = caFile === undefined ? undefined : await readCa(caFile);
    const { transport, close } = createTransport({
      ...{ answerTimeoutMs: waits.answerSeconds * 1000, stallTimeoutMs: waits.stallSeconds * 1000 },
      ca,
    });
    this.#close = close;
    this.#budget = await openBudget(this.#config);
    return async (request) => {
      const response = await transport(request);
      return { ...response, body: this.#count(response.body, request.signal) };
    };
  }

  async *#count(
    body: AsyncIterable<Uint8Array>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of body) {
        this.#received += chunk.length;
        await this.#rate?.take(chunk.length, signal);
        // What came is paid for and kept, also where it was the last that today's bytes allowed.
        yield chunk;
        await this.#budget?.spend(chunk.length);
      }
    } finally {
      await this.#budget?.flush();
    }
  }
}

async function openBudget({ line, stateDir }: Config): Promise<DailyBudget | undefined> {
  if (line.bytesPerDay === undefined) return undefined;
  const path = join(stateDir, 'budget.json');
  const spent = await readRecord(path, budgetSchema).catch(() => undefined);
  const budget = new DailyBudget(line.bytesPerDay, spent, (state) => writeRecord(path, state));
  if (budget.left > 0) return budget;
  throw new SnapgateError('BUDGET_SPENT', `today's ${line.bytesPerDay} bytes are used up`, {
    hint: 'The download goes on tomorrow where it stopped.',
  });
}

async function readCa(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new SnapgateError('CONFIG_INVALID', 'the file of certificate authorities is unreadable', {
      where: file,
      hint: 'Correct caFile in the configuration.',
      cause,
    });
  }
}
