-- Writes one partition's batch: all of it and the position, or nothing.
-- KEYS: fence, index of expiry, names of metrics, then the hashes to write.
-- ARGV: epoch, position, end, watermark, prefix of hashes, TTL's slack in ms;
--   for each hash: event time at which it expires, number of arguments, field, value, ...;
--   for each deletion: window size, window start, field.
-- Returns 'ok', or what fence.lua, which comes before it, answers.
local watermark = math.max(tonumber(fence[3]) or -1, tonumber(ARGV[4]))
local at = 7
for i = 4, #KEYS do
  local expires, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  at = at + 2
  if expires > watermark then
    for first = at, at + count - 1, 4000 do
      redis.call('HSET', KEYS[i], unpack(ARGV, first, math.min(first + 3999, at + count - 1)))
    end
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', expires - watermark + ARGV[6]))
    redis.call('ZADD', KEYS[2], ARGV[at - 2], KEYS[i])
    redis.call('SADD', KEYS[3], string.match(string.sub(KEYS[i], #ARGV[5] + 1), '^(.*):[^:]*:[^:]*$'))
  end
  at = at + count
end
if at <= #ARGV then
  local names = redis.call('SMEMBERS', KEYS[3])
  for first = at, #ARGV, 3 do
    for _, name in ipairs(names) do
      redis.call('HDEL', ARGV[5] .. name .. ':' .. ARGV[first] .. ':' .. ARGV[first + 1],
        ARGV[first + 2])
    end
  end
end
-- A part at a time: letting go of a month of minutes must not hold everybody up.
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', watermark),
  'LIMIT', 0, 1000)
for _, key in ipairs(old) do
  redis.call('UNLINK', key)
  redis.call('ZREM', KEYS[2], key)
end
redis.call('HSET', KEYS[1], 'offset', ARGV[3], 'watermark', string.format('%.0f', watermark))
return 'ok'
