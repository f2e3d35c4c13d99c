/** What the jobs need of an event: a POJO, so Flink serialises it without Kryo. */
public class Event {
  public String user;
  public String type;
  public String page;
  public long ts;
  public long duration;
}
