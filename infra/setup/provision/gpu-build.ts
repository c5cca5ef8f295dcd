/**
 * Installs TensorFlow's CUDA build, loads it and multiplies with it; says whether it found a GPU.
 * It ends with 0 where there is none too, because that is what it is for: to show that the build
 * fits before it meets a GPU.
 */
import { loadTensorFlow, deviceSeen, tensorflowVersion } from '../../../model/tensor/tensorflow.ts';
import { homeFromEnvironment } from '../../config/home.ts';
import { progressOn } from '../progress.ts';
import { provision } from './index.ts';

const home = homeFromEnvironment();
try {
  await provision(['tensorflow'], { home, device: 'gpu', progress: progressOn(process.stderr) });
  const tf = loadTensorFlow(home.tensorflow('gpu').addon);
  const a = tf.tensor2d([
    [1, 2],
    [3, 4],
  ]);
  const product = Array.from(tf.matMul(a, a).dataSync());
  const expected = [7, 10, 15, 22];
  if (product.some((value, index) => value !== expected[index])) {
    throw new Error(`[[1, 2], [3, 4]] squared came out as ${product.join(', ')}.`);
  }
  const seen =
    deviceSeen() === 'gpu' ? 'It found a GPU.' : 'It found no GPU and runs on the processor.';
  process.stdout.write(
    `TensorFlow ${tensorflowVersion()}, CUDA build: loads and multiplies. ${seen}\n`,
  );
} catch (error) {
  process.stderr.write(`\n${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
