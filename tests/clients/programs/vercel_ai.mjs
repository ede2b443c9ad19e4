// The Vercel AI SDK against a server: `vercel_ai.mjs URL MODEL SCENARIO` prints what came of it as JSON.
import { createOpenAI } from '@ai-sdk/openai';
import { generateObject, generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';

const [url, name, scenario] = process.argv.slice(2);
const model = createOpenAI({ baseURL: url }).responses(name);
const asked = [];
const options = {
  model,
  prompt: 'Weather in Oslo?',
  stopWhen: stepCountIs(5),
  tools: {
    get_weather: tool({
      description: 'The weather in a city.',
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => {
        asked.push(city);
        return 'rain';
      },
    }),
  },
};

const scenarios = {
  generate: async () => {
    const { text, steps, reasoningText } = await generateText(options);
    return { text, asked, steps: steps.length, reasoning: steps[0].reasoningText ?? reasoningText ?? null };
  },
  stream: async () => {
    const result = streamText(options);
    let deltas = '';
    for await (const part of result.fullStream) {
      if (part.type === 'error') throw part.error;
      if (part.type === 'text-delta') deltas += part.text;
    }
    return { text: deltas, asked, steps: (await result.steps).length };
  },
  object: async () => {
    const schema = z.object({ name: z.string(), warm: z.boolean() });
    return (await generateObject({ model, prompt: 'Name a colour.', schema })).object;
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
