// openai-node against a server: `openai_node.mjs URL MODEL SCENARIO` prints what came of it as JSON.
import OpenAI from 'openai';
import { ResponsesWS } from 'openai/resources/responses/ws';

const [url, model, scenario] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url });
const weather = {
  type: 'function',
  name: 'get_weather',
  description: 'The weather in a city.',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  strict: false,
};

const scenarios = {
  // A tool loop over the WebSocket, each turn sending only what is new.
  socket: (options = {}) =>
    new Promise((resolve, reject) => {
      const ws = new ResponsesWS(client, options);
      const answered = [];
      let deltas = 0;
      ws.on('error', reject);
      ws.on('response.output_text.delta', () => (deltas += 1));
      ws.on('response.completed', ({ response }) => {
        const calls = response.output.filter((item) => item.type === 'function_call');
        if (calls.length === 0) {
          ws.close();
          const text = response.output.flatMap((item) => item.content ?? []).map((part) => part.text).join('');
          resolve({ text, answered, deltas, cached: response.usage.input_tokens_details.cached_tokens });
          return;
        }
        answered.push(...calls.map((call) => `${call.name} ${call.arguments}`));
        ws.send({
          type: 'response.create',
          model,
          previous_response_id: response.id,
          input: calls.map((call) => ({ type: 'function_call_output', call_id: call.call_id, output: 'rain' })),
          tools: [weather],
          store: false,
        });
      });
      ws.send({ type: 'response.create', model, input: 'Weather in Oslo?', tools: [weather], store: false });
    }),

  // The same with every message compressed.
  compressed: () => scenarios.socket({ perMessageDeflate: true }),

  // A refused request is an error event; the connection goes on.
  refused: () =>
    new Promise((resolve, reject) => {
      const ws = new ResponsesWS(client);
      let code;
      ws.on('error', (error) => {
        if (code !== undefined) return reject(error);
        code = error.error.error.code;
        ws.send({ type: 'response.create', model, input: 'What can you do?', store: false });
      });
      ws.on('response.completed', ({ response }) => {
        ws.close();
        resolve({ code, text: response.output[0].content[0].text });
      });
      ws.send({ type: 'response.create', model, input: 'go on', previous_response_id: 'resp_unknown', store: false });
    }),

  // The streaming helper over HTTP.
  stream: async () => {
    const stream = client.responses.stream({ model, input: 'What can you do?' });
    let deltas = '';
    stream.on('response.output_text.delta', (event) => (deltas += event.delta));
    const final = await stream.finalResponse();
    return { deltas, final: final.output_text };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
