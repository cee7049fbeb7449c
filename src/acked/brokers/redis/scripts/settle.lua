-- Settlements, as `acked.record.settle` means them.
--
-- Keys: id, state, body, result, failure, attempt, count (hashes), lanes:*, ready:*, later:*,
-- done:* (zsets), held:*, kill, scheduled (sets), wake:* (lists).

local ENDS_AS = {
  succeed = 'SUCCESS', retry = 'SCHEDULED', postpone = 'SCHEDULED', release = 'QUEUED',
  fail = 'FAILURE', revoke = 'REVOKED',
}
local WIDTH = 18 -- fields of one settlement in *rows*

-- Apply *rows*, which is flat; the numbers of those that were refused.
local function settle(rows)
  local refused, tags, number = {}, {}, 0
  for at = 0, #rows - 1, WIDTH do
    number = number + 1
    local tag = rows[at + 1]
    tags[number] = tag > 0 and tag_of(tag) or call('HGET', P .. 'id', rows[at + 2]) or ''
  end
  local all, known = records(tags), {}
  for i = 1, number do
    local at, tag = (i - 1) * WIDTH, tags[i]
    local r = known[tag]
    if r == nil then
      r = all[i]
      known[tag] = r
    end
    if not r or r[TOKEN] ~= rows[at + 3] or r[ID] ~= rows[at + 2] then
      refused[#refused + 1] = i
    elseif r[STATE] == 'RUNNING' then
      local event, ended = rows[at + 4], rows[at + 5]
      local started, not_before = rows[at + 6], rows[at + 7]
      local reason, counts, loss, suspect = rows[at + 8], rows[at + 9], rows[at + 10], rows[at + 11]
      local consumer, result, failure = rows[at + 12], rows[at + 13], rows[at + 14]
      local body, log = rows[at + 15], rows[at + 18]
      local state = ENDS_AS[event]
      let_go(tag, r)
      local queue = r[QUEUE]

      if started then
        r[RUNS] = r[RUNS] + 1
        if event == 'succeed' and counts and not loss and not failure and not consumer
          and not log then
          r[STARTED] = started
        else
          r[ENTRIES] = r[ENTRIES] + 1
          two(hset, 'attempt', tag .. ':' .. r[ENTRIES], pack(
            r[ATTEMPT], event, started, ended, consumer or r[CONSUMER], reason,
            failure and ARGV[failure] or false, not_before, counts, loss,
            log and ARGV[log] or ''))
        end
      end

      if r[REVOKE] > 0 and (state == 'QUEUED' or state == 'SCHEDULED') then
        state, reason = 'REVOKED', 'revoked'
      end
      r[STATE], r[REASON] = state, reason
      if not_before then r[DUE] = not_before end
      if not counts then r[ATTEMPT] = r[ATTEMPT] - 1 end
      if state == 'SCHEDULED' and event == 'retry' then r[RETRIES] = r[RETRIES] + 1 end
      if loss then
        r[LOSSES], r[SUSPECTED] = r[LOSSES] + 1 + r[SUSPECTED], 0
      elseif suspect then
        r[SUSPECTED] = r[SUSPECTED] + 1
      end
      if r[RESULT] == true then one(hdel, 'result', tag) end
      if type(result) == 'number' then
        two(hset, 'result', tag, ARGV[result])
        result = true
      end
      r[RESULT] = result
      if event == 'succeed' then
        if r[FAILED] then one(hdel, 'failure', tag) end
        r[FAILED] = false
      elseif failure then
        two(hset, 'failure', tag, ARGV[failure])
        r[FAILED] = true
      end
      if body then
        two(hset, 'body', tag, ARGV[body])
        r[QUEUE], r[PRIORITY] = rows[at + 16], rows[at + 17]
      end

      move('RUNNING', state, queue, r[QUEUE])
      if state == 'QUEUED' or state == 'SCHEDULED' then
        line_up(tag, r)
      else
        r[FINISHED] = ended
        two(zadd, 'done:' .. state, micros(ended), tag)
      end
      store(tag, r)
    end
  end
  flush()
  return refused
end
