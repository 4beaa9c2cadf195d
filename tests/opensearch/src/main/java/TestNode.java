import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.index.reindex.ReindexPlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

/**
 * A node of OpenSearch without its start script, which refuses root and asks for limits of the kernel that a test does
 * not need. Its arguments are settings, KEY=VALUE. SIGTERM closes it as the real one closes, and so does the end of its
 * standard input: no node outlives the program that started it.
 */
final class TestNode extends Node {
  private TestNode(Settings settings) {
    super(
        InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "node"),
        List.of(Netty4Plugin.class, ReindexPlugin.class),
        false);
  }

  public static void main(String[] arguments) throws Exception {
    Settings.Builder settings = Settings.builder();
    for (String argument : arguments) {
      String[] setting = argument.split("=", 2);
      settings.put(setting[0], setting[1]);
    }
    TestNode node = new TestNode(settings.build());
    node.start();
    Runtime.getRuntime().addShutdownHook(new Thread(node::closeQuietly));
    while (System.in.read() >= 0) {}
    System.exit(0);
  }

  private void closeQuietly() {
    try {
      close();
    } catch (Exception failed) {
      failed.printStackTrace();
    }
  }
}
