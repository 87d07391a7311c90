-- Puts a name on the board: "<tag>:<instant>", in milliseconds of Redis's clock.
-- KEYS: the board.  ARGV: name, tag, milliseconds from now, rule.
-- Rules: `always`; `due`, only if it is on the board and its instant has passed (so one of many gets it);
-- `longer`, only if that does not shorten what stands there.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HGET', KEYS[1], ARGV[1])
local standing = held and tonumber(string.match(held, '%d+$'))
local instant = now + ARGV[3]
if ARGV[4] == 'due' and (not held or now < standing) then
  return 0
end
if ARGV[4] == 'longer' and held and instant < standing then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. string.format('%d', instant))
return 1
