import { isAbsolute } from 'node:path';
import type { Configuration } from '../../../infra/config/configuration.ts';
import { homeAt } from '../../../infra/config/home.ts';
import { fetchModel } from '../../../infra/setup/fetch-model.ts';
import { provision, type Part } from '../../../infra/setup/provision/index.ts';
import type { Output } from '../../terminal/output.ts';
import { setupProgress } from '../../terminal/status-line.ts';

/** Installs TensorFlow, the model and the given parts if they are missing. */
export async function setUp(
  output: Output,
  configuration: Configuration,
  more: readonly Part[] = [],
): Promise<void> {
  const { home, device, model } = configuration;
  const progress = setupProgress(output);
  const parts: Part[] = ['tensorflow', ...more, ...(model === null ? (['model'] as const) : [])];
  await provision(parts, { home: homeAt(home), device, progress });
  if (model !== null && !isAbsolute(model)) await fetchModel(configuration, model, progress);
}
