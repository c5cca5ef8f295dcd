import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

/** No file is exempt, and no comment can switch a rule off. */
const LIMITS = {
  'max-len': ['error', { code: 100, ignoreUrls: true }],
  'max-lines': ['error', 400],
  'max-lines-per-function': ['error', 70],
  'max-params': ['error', 4],
};

export default defineConfig(
  { ignores: ['node_modules/', '.errata/', 'dist/', 'coverage/'] },
  { linterOptions: { noInlineConfig: true } },
  {
    files: ['**/*.ts', '**/*.mts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      ...LIMITS,
      eqeqeq: 'error',
      'no-console': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_' },
      ],
      // An asynchronous interface may have an implementation with nothing to wait for.
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
    },
  },
  {
    files: ['**/*.mjs', '**/*.js', '**/*.cjs'],
    rules: { ...LIMITS, eqeqeq: 'error', 'no-unused-vars': 'error', 'no-undef': 'off' },
  },
);
