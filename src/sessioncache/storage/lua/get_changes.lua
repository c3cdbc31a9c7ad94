-- Read what has changed of a session since it was read last. Writes nothing.
--
-- KEYS[1] meta, KEYS[2] runs; ARGV[1] the rev that is held, ARGV[2] rev at birth, ARGV[3] since which rev changes are
-- wanted, ARGV[4] the order from which on runs are wanted, ARGV[5] '1' with bodies, ARGV[6] most bytes of runs.
-- Returns {session_id, PTTL} if nothing has changed; {} if it is better read anew, whole; else {session_id, PTTL, the
-- fields of meta, ZCARD of runs, orders of runs that are gone, order, head, body, ... of runs that changed}.

local MOST_TEXT = 1024 -- of the field that names the last writes: no script of ours writes as much

local meta, runs = KEYS[1], KEYS[2]
local f = redis.call('HMGET', meta, 'session_id', 'rev', 'born', 'count', 'changes')
local members = redis.call('ZCARD', runs)
if not f[1] or not f[2] or f[3] ~= ARGV[2] or members ~= (tonumber(f[4] or '') or -1) * 3 then return {} end
local reply = {f[1], redis.call('PTTL', meta)}
if f[2] == ARGV[1] then return reply end

local text, last = f[5] or '', ';' .. f[2]
local _, start = string.find(text, ';' .. ARGV[3] .. ':', 1, true)
if not start or #text > MOST_TEXT or string.sub(text, -#last) ~= last then return {} end
local gone, changed, seen, left = {}, {}, {}, tonumber(ARGV[6])
for writes in string.gmatch(string.sub(text, start, -#last - 1), ':([^;]*)') do
  for order in string.gmatch(writes, '%d+') do
    if #order > 16 then return {} end
    if not seen[order] and tonumber(order) >= tonumber(ARGV[4]) then
      seen[order] = true
      local head = redis.call('ZRANGE', runs, order, order, 'BYSCORE')[1]
      local body = head and ARGV[5] == '1' and redis.call('ZRANGE', runs, '-' .. order, '-' .. order, 'BYSCORE')[1] or ''
      if head then
        changed[#changed + 1], changed[#changed + 2], changed[#changed + 3] = order, head, body
      else
        gone[#gone + 1] = order
      end
      left = left - #(head or '') - #body
      if left < 0 then return {} end
    end
  end
end
reply[3], reply[4], reply[5], reply[6] = redis.call('HGETALL', meta), members, gone, changed
return reply
