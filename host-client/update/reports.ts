import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { toSnapgateError } from '../../shared/errors.ts';
import { MAX_REPORTS, type SentReport, updateReportSchema } from '../../shared/update-reports.ts';
import type { Config } from '../config.ts';
import type { GatewayApi } from '../net/gateway-api.ts';
import { readRecord, writeRecord } from '../system/records.ts';
import { VERSION } from '../version.ts';

const queueSchema = v.object({ reports: v.array(updateReportSchema) });
/** How long the gateway may take to hear of an update, in milliseconds: nobody waits for that. */
const SEND_MS = 15_000;

/** What is told of an attempt besides what is the same each time. */
export type ToldAttempt = Omit<SentReport, 'version' | 'id' | 'machine' | 'client' | 'tag'>;

/**
 * Tells the gateway how updates went, where the owner wants that. What cannot be told now waits in the
 * state folder; of what waits too long the newest is kept. No failure to tell is a failure of the
 * update.
 */
export class UpdateReports {
  readonly #config: Pick<Config, 'reports' | 'root' | 'stateDir' | 'tag'>;
  readonly #notice: (message: string) => void;

  constructor(
    config: Pick<Config, 'reports' | 'root' | 'stateDir' | 'tag'>,
    notice: (message: string) => void,
  ) {
    this.#config = config;
    this.#notice = notice;
  }

  /** Tells of an attempt, and of those before that could not be told; later, without `api`. */
  async tell(
    attempt: ToldAttempt,
    api: Pick<GatewayApi, 'reportUpdates'> | undefined,
    signal?: AbortSignal,
  ): Promise<void> {
    if (!this.#config.reports.send) return;
    try {
      const reports = [...(await this.#waiting()), await this.#reportOf(attempt)].slice(
        -MAX_REPORTS,
      );
      // Written first: a machine that is cut off while it tells tells again, and counts once.
      await writeRecord(this.#path, { reports });
      if (api === undefined) return;
      const ends = [AbortSignal.timeout(SEND_MS), ...(signal === undefined ? [] : [signal])];
      await api.reportUpdates(reports, AbortSignal.any(ends));
      await writeRecord(this.#path, { reports: [] });
    } catch (thrown) {
      this.#notice(`not reported yet: ${toSnapgateError(thrown).message}`);
    }
  }

  get #path(): string {
    return join(this.#config.stateDir, 'reports.json');
  }

  async #waiting(): Promise<readonly SentReport[]> {
    return (await readRecord(this.#path, queueSchema).catch(() => undefined))?.reports ?? [];
  }

  async #reportOf(attempt: ToldAttempt): Promise<SentReport> {
    const { reports, root, tag } = this.#config;
    const machine = reports.machineId ? await machineDigest(root) : undefined;
    return {
      ...{ version: 1, id: randomBytes(8).toString('hex'), client: VERSION, tag },
      ...(machine === undefined ? {} : { machine }),
      ...attempt,
    };
  }
}

/** Stands for a machine without telling its id, as machine-id(5) asks; undefined without an id. */
async function machineDigest(root: string): Promise<string | undefined> {
  const id = (await readFile(join(root, 'etc/machine-id'), 'utf8').catch(() => '')).trim();
  if (id === '') return undefined;
  return createHash('sha256').update(`snaphost report\0${id}`).digest('hex').slice(0, 32);
}
