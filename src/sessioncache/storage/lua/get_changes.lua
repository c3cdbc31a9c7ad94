-- Read what has changed of a session since it was read last. Writes nothing.
--
-- KEYS[1] meta, KEYS[2] runs; ARGV[1] rev, ARGV[2] rev at birth, as they are held; ARGV[3] only runs of a later version
-- are returned; ARGV[4] how many of the newest runs, '' for all; ARGV[5] '1' with bodies; ARGV[6] most runs to look at,
-- ARGV[7] most bytes of runs. Returns {session_id, PTTL} if nothing has changed; {} if it is better read anew, whole;
-- else {session_id, PTTL, the fields of meta, ZCARD of runs, order:version of each run, newest first, in one text,
-- order:version, head, body, ... of each run that changed}.

local meta, runs, limit = KEYS[1], KEYS[2], tonumber(ARGV[4])
local f = redis.call('HMGET', meta, 'session_id', 'rev', 'born', 'count')
local members, count = redis.call('ZCARD', runs), tonumber(f[4] or '')
if not f[1] or f[3] ~= ARGV[2] or not count or members ~= count * 3 then return {} end
local reply = {f[1], redis.call('PTTL', meta)}
if f[2] == ARGV[1] then return reply end

local n_runs = math.min(limit or count, count)
if n_runs > tonumber(ARGV[6]) then return {} end
local heads = redis.call('ZRANGE', runs, '+inf', 1, 'BYSCORE', 'REV', 'LIMIT', 0, n_runs, 'WITHSCORES')
local since, left, tokens, changed = tonumber(ARGV[3]), tonumber(ARGV[7]), {}, {}
for i = 1, #heads, 2 do
  local version = string.match(heads[i], '^h%d*:(%d+):') or ''
  local token = heads[i + 1] .. ':' .. version
  tokens[#tokens + 1] = token
  if (tonumber(version) or since + 1) > since then
    local order = '-' .. heads[i + 1]
    local body = ARGV[5] == '1' and redis.call('ZRANGE', runs, order, order, 'BYSCORE')[1] or ''
    left = left - #heads[i] - #body
    if left < 0 then return {} end
    changed[#changed + 1], changed[#changed + 2], changed[#changed + 3] = token, heads[i], body
  end
end
reply[3], reply[4] = redis.call('HGETALL', meta), members
reply[5], reply[6] = table.concat(tokens, ' '), changed
return reply
