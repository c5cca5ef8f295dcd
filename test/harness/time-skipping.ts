/** Temporal's test server, whose clock runs ahead while nothing happens. */
import { TestWorkflowEnvironment } from '@temporalio/testing';
import {
  DefaultLogger,
  Runtime,
  makeTelemetryFilterString,
  type WorkflowBundle,
} from '@temporalio/worker';
import { homeFromEnvironment } from '../../infra/config/home.ts';
import { bundleWorkflows } from '../../pipelines/temporal/workflow-bundle.ts';
import { afterwards } from './clean-up.ts';

/** A Temporal test server and a bundle for all tests of a file. */
export class TimeSkippingServer {
  readonly environment: TestWorkflowEnvironment;
  readonly bundle: WorkflowBundle;
  #stopped: Promise<void> | undefined;

  private constructor(environment: TestWorkflowEnvironment, bundle: WorkflowBundle) {
    this.environment = environment;
    this.bundle = bundle;
  }

  static async start(): Promise<TimeSkippingServer> {
    quietRuntime();
    const path = homeFromEnvironment().temporalTestServer.executable;
    const environment = await TestWorkflowEnvironment.createTimeSkipping({
      server: { executable: { type: 'existing-path', path } },
    });
    return TimeSkippingServer.#of(environment);
  }

  /** Uses a real Temporal server instead, in real time, for features that the test server lacks. */
  static async inPlaceOf(server: {
    address: string;
    namespace: string;
  }): Promise<TimeSkippingServer> {
    quietRuntime();
    const environment = await TestWorkflowEnvironment.createFromExistingServer(server);
    return TimeSkippingServer.#of(environment);
  }

  static async #of(environment: TestWorkflowEnvironment): Promise<TimeSkippingServer> {
    const server = new TimeSkippingServer(environment, await bundleWorkflows());
    afterwards(() => server.stop());
    return server;
  }

  async stop(): Promise<void> {
    this.#stopped ??= this.environment.teardown();
    await this.#stopped;
  }
}

let installed = false;

/** Limits the logs of Temporal's runtime to errors. */
export function quietRuntime(): void {
  if (!installed)
    Runtime.install({
      logger: new DefaultLogger('ERROR', () => undefined),
      telemetryOptions: {
        logging: {
          forward: {},
          filter: makeTelemetryFilterString({ core: 'ERROR', other: 'ERROR' }),
        },
      },
    });
  installed = true;
}
